import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { attachments } from "../bulk";
import { DetachVolumes, GROUP_MAX, LimitVolumes, ResizeVolumes, TakeGroupSnapshot } from "../bulk-dialogs";
import { ClaimLink } from "../claim-parts";
import { nameOf, originOf } from "../claims";
import { CreateVolume, DeleteVolumes, TakeSnapshot } from "../dialogs";
import { bytes, count, micros, perSecond, ratio, shown, time } from "../format";
import { useLanguage, valueWord, type Word, word } from "../i18n";
import { Loaded, Page, State } from "../parts";
import { useBusiest, useCluster, useRights, useSpace, useVolumes } from "../queries";
import { reductionsOfVolumes } from "../reduction";
import { type Column, DataTable } from "../table";
import type { Rates, Volume } from "../types";
import { stateOf } from "../volume-facts";

type Kind = "snapshot" | "group" | "resize" | "limits" | "detach" | "delete";
type Dialog = { kind: Kind; volumes: Volume[]; done: () => void };

function claimOf(volume: Volume): string | null {
  const origin = originOf(volume.labels);
  return origin && nameOf(origin);
}

/** Hundredths as a number to sort by and to export. */
const times = (hundredths: number | undefined) => (hundredths === undefined ? null : hundredths / 100);

interface Measured {
  rates: Map<number, Rates>;
  /** What compression saves, where it is known. */
  reductions: Map<number, number>;
}

/** The columns of a table of volumes. */
function columns(language: string, nodes: Map<number, string>, measured: Measured): Column<Volume>[] {
  const { rates, reductions } = measured;
  const node = (id: number | null) => (id === null ? null : (nodes.get(id) ?? `node-${id}`));
  return [
    {
      id: "name",
      title: word("name"),
      value: (one) => one.name,
      show: (one) => (
        <Link to="/volumes/$name" params={{ name: one.name }}>
          {one.name}
        </Link>
      ),
      width: "minmax(160px, 2fr)",
    },
    { id: "container", title: word("container"), value: (one) => one.container },
    {
      id: "size",
      title: word("size"),
      value: (one) => one.size,
      show: (one) => bytes(one.size),
      right: true,
    },
    {
      id: "mapped",
      title: word("mapped"),
      value: (one) => one.mapped,
      show: (one) => bytes(one.mapped),
      right: true,
    },
    {
      id: "reduction",
      title: word("reductionColumn"),
      value: (one) => times(reductions.get(one.id)),
      show: (one) => shown(reductions.get(one.id), ratio),
      right: true,
    },
    {
      id: "iops",
      title: word("iops"),
      value: (one) => rates.get(one.id)?.iops ?? null,
      show: (one) => shown(rates.get(one.id)?.iops, count),
      right: true,
      width: "80px",
    },
    {
      id: "bandwidth",
      title: word("bandwidth"),
      value: (one) => rates.get(one.id)?.bandwidth ?? null,
      show: (one) => shown(rates.get(one.id)?.bandwidth, perSecond),
      right: true,
    },
    {
      id: "latency",
      title: word("latency"),
      value: (one) => rates.get(one.id)?.latency_us ?? null,
      show: (one) => shown(rates.get(one.id)?.latency_us, micros),
      right: true,
    },
    { id: "rf", title: "RF", value: (one) => one.rf, right: true, width: "60px" },
    {
      id: "owner",
      title: word("owner"),
      value: (one) => node(one.owner),
      show: (one) => node(one.owner) ?? "–",
    },
    {
      id: "clients",
      title: word("attachedTo"),
      value: (one) => one.attachment.clients.join(" ") || null,
      show: (one) => one.attachment.clients.join(", ") || "–",
      width: "minmax(115px, 1fr)",
    },
    {
      id: "claim",
      title: word("claim"),
      value: (one) => claimOf(one),
      show: (one) => <ClaimLink origin={originOf(one.labels)} />,
      width: "minmax(150px, 1.2fr)",
    },
    {
      id: "state",
      title: word("state"),
      value: (one) => valueWord("state", stateOf(one)),
      show: (one) => <State state={stateOf(one)} of="state" />,
    },
    {
      id: "created",
      title: word("created"),
      value: (one) => one.created_ms,
      show: (one) => time(one.created_ms, language),
      width: "minmax(160px, 1fr)",
    },
  ];
}

/** What can be done with those that are chosen. */
function Bulk(props: { volumes: Volume[]; done: () => void; ask: (dialog: Dialog) => void }) {
  const { volumes, done, ask } = props;
  const button = (kind: Kind, title: Word, hindered?: string | false) => (
    <Button
      size="xs"
      variant={kind === "delete" ? "filled" : "default"}
      color={kind === "delete" ? "red" : undefined}
      disabled={typeof hindered === "string"}
      title={hindered || undefined}
      onClick={() => ask({ kind, volumes, done })}
    >
      {word(title)}
    </Button>
  );
  const many = volumes.length > GROUP_MAX && word("groupSnapshotMany", GROUP_MAX);
  return (
    <>
      {button("snapshot", "takeSnapshot")}
      {volumes.length > 1 && button("group", "groupSnapshot", many)}
      {button("resize", "resize")}
      {button("limits", "limitsSet")}
      {button("detach", "detach", attachments(volumes).length === 0 && word("detachNone"))}
      {button("delete", "delete")}
    </>
  );
}

function Dialogs({ dialog, close }: { dialog: Dialog; close: () => void }) {
  const { volumes, done } = dialog;
  const props = { volumes, close, after: done };
  switch (dialog.kind) {
    case "snapshot":
      return <TakeSnapshot close={close} volumes={volumes.map((one) => one.name)} />;
    case "group":
      return <TakeGroupSnapshot {...props} />;
    case "resize":
      return <ResizeVolumes {...props} />;
    case "limits":
      return <LimitVolumes {...props} />;
    case "detach":
      return <DetachVolumes {...props} />;
    case "delete":
      return <DeleteVolumes {...props} />;
  }
}

/** Some volumes, and what can be done with them. */
export function VolumesTable({ volumes }: { volumes: Volume[] }) {
  const language = useLanguage();
  const nodes = useCluster().data?.nodes;
  const { operate } = useRights();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const busiest = useBusiest().data?.volumes;
  const space = useSpace().data;
  const drawn = useMemo(
    () =>
      columns(language, new Map(nodes?.map((node) => [node.id, node.name])), {
        rates: new Map(busiest?.map((one) => [one.id, one.rates])),
        reductions: reductionsOfVolumes(space),
      }),
    [language, nodes, busiest, space],
  );
  return (
    <>
      <DataTable
        label={word("volumes")}
        rows={volumes}
        columns={drawn}
        id={(one) => one.name}
        actions={
          operate ? (chosen, done) => <Bulk volumes={chosen} done={done} ask={setDialog} /> : undefined
        }
      />
      {dialog && <Dialogs dialog={dialog} close={() => setDialog(null)} />}
    </>
  );
}

export function VolumesPage() {
  useLanguage();
  const query = useVolumes();
  const { operate } = useRights();
  const [create, setCreate] = useState(false);
  return (
    <Page
      title="volumes"
      actions={operate && <Button onClick={() => setCreate(true)}>{word("createVolume")}</Button>}
    >
      <Loaded query={query}>{(volumes) => <VolumesTable volumes={volumes} />}</Loaded>
      {create && <CreateVolume close={() => setCreate(false)} />}
    </Page>
  );
}
