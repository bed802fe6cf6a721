import { Button, Group, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { call, path } from "../api";
import { type ContainerRow, containerRows } from "../containers";
import { ContainerForm, each, Form, refresh } from "../dialogs";
import { bytes, count, micros, perSecond, ratio, shown } from "../format";
import { Walked } from "../home-panels";
import { useLanguage, valueWord, word } from "../i18n";
import { Fill, Loaded, Page, State } from "../parts";
import { BUSIEST_MAX, useBusiest, useContainers, useRights, useSpace, useVolumes } from "../queries";
import { type Column, DataTable } from "../table";
import type { Container } from "../types";

type Dialog =
  | { kind: "create" }
  | { kind: "edit"; container: Container }
  | { kind: "delete"; names: string[]; done?: () => void };

function policies(): Column<ContainerRow>[] {
  return [
    {
      id: "name",
      title: word("name"),
      value: (one) => one.name,
      show: (one) => (
        <Link to="/containers/$name" params={{ name: one.name }}>
          {one.name}
        </Link>
      ),
      width: "minmax(120px, 2fr)",
    },
    { id: "rf", title: "RF", value: (one) => one.rf, right: true, width: "60px" },
    {
      id: "least",
      title: word("minCopies"),
      value: (one) => one.min_copies,
      show: (one) => (one.strict ? word("strictCopies", one.min_copies) : one.min_copies),
      right: true,
      width: "minmax(150px, 1fr)",
    },
    {
      id: "sync",
      title: word("sync"),
      value: (one) => word(one.sync === "always" ? "syncAlways" : "syncFlush"),
      width: "minmax(130px, 1fr)",
    },
    {
      id: "compression",
      title: word("compression"),
      value: (one) => valueWord("compression", one.compression),
    },
  ];
}

function size(id: string, title: string, value: (one: ContainerRow) => number | null): Column<ContainerRow> {
  return { id, title, value, show: (one) => bytes(value(one)), right: true, width: "minmax(115px, 1fr)" };
}

/** What its volumes use and do, as far as it is measured. */
function figures(): Column<ContainerRow>[] {
  return [
    { id: "volumes", title: word("volumes"), value: (one) => one.volumes, right: true, width: "95px" },
    size("provisioned", word("provisioned"), (one) => one.provisioned),
    size("mapped", word("mapped"), (one) => one.mapped),
    size("snapshots", word("inSnapshots"), (one) => one.inSnapshots),
    size("frees", word("frees"), (one) => one.frees),
    {
      id: "reduction",
      title: word("reductionColumn"),
      value: (one) => (one.reduction === null ? null : one.reduction / 100),
      show: (one) => shown(one.reduction, ratio),
      right: true,
    },
    size("quota", word("quota"), (one) => one.quota),
    {
      id: "quotaUsed",
      title: `${word("quotaUsed")} (%)`,
      value: (one) => one.quotaUsed,
      show: (one) => (
        <Fill label={`${one.name}: ${word("quotaUsed")}`} used={one.provisioned} whole={one.quota ?? 0} />
      ),
      width: "minmax(150px, 1fr)",
    },
    {
      id: "space",
      title: word("spaceState"),
      value: (one) => (one.space ? valueWord("space", one.space) : null),
      show: (one) => (one.space ? <State state={one.space} of="space" /> : "–"),
    },
    {
      id: "iops",
      title: word("iops"),
      value: (one) => one.iops,
      show: (one) => shown(one.iops, count),
      right: true,
      width: "80px",
    },
    {
      id: "bandwidth",
      title: word("bandwidth"),
      value: (one) => one.bandwidth,
      show: (one) => shown(one.bandwidth, perSecond),
      right: true,
    },
    {
      id: "latency",
      title: word("latency"),
      value: (one) => one.latency,
      show: (one) => shown(one.latency, micros),
      right: true,
    },
  ];
}

function toDo(ask: (dialog: Dialog) => void): Column<ContainerRow> {
  return {
    id: "actions",
    title: "",
    value: () => null,
    width: "150px",
    show: (container) => (
      <Group gap={4} wrap="nowrap">
        <Button size="compact-xs" variant="default" onClick={() => ask({ kind: "edit", container })}>
          {word("edit")}
        </Button>
        <Button
          size="compact-xs"
          variant="default"
          disabled={container.volumes > 0}
          onClick={() => ask({ kind: "delete", names: [container.name] })}
        >
          {word("delete")}
        </Button>
      </Group>
    ),
  };
}

function DeleteContainers({
  names,
  after,
  close,
}: {
  names: string[];
  after?: () => void;
  close: () => void;
}) {
  const remove = async () => {
    await each(names, (name) => call("DELETE", `/containers${path(name)}`));
    await refresh("containers");
    after?.();
  };
  return (
    <Form title={word("delete")} submit={word("delete")} danger close={close} act={remove}>
      <Text size="sm">{word("deleteContainer")}</Text>
      <Text size="sm" fw={600}>
        {names.join(", ")}
      </Text>
    </Form>
  );
}

/** What can be done with those that are chosen: one with volumes in it stays. */
function Bulk({
  chosen,
  done,
  ask,
}: {
  chosen: ContainerRow[];
  done: () => void;
  ask: (dialog: Dialog) => void;
}) {
  const full = chosen.some((one) => one.volumes > 0);
  return (
    <Button
      size="xs"
      color="red"
      disabled={full}
      title={full ? word("deleteFull") : undefined}
      onClick={() => ask({ kind: "delete", names: chosen.map((one) => one.name), done })}
    >
      {word("delete")}
    </Button>
  );
}

function ContainerTable({ containers, ask }: { containers: Container[]; ask: (dialog: Dialog) => void }) {
  const language = useLanguage();
  const { operate } = useRights();
  const volumes = useVolumes().data;
  const space = useSpace().data;
  const busiest = useBusiest().data;
  const rows = useMemo(
    () => containerRows(containers, { volumes, space, busiest, busiestMax: BUSIEST_MAX }),
    [containers, volumes, space, busiest],
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const drawn = useMemo(
    () => [...policies(), ...figures(), ...(operate ? [toDo(ask)] : [])],
    [operate, language, ask],
  );
  return (
    <>
      <DataTable
        label={word("containers")}
        rows={rows}
        columns={drawn}
        id={(one) => one.name}
        actions={operate ? (chosen, done) => <Bulk chosen={chosen} done={done} ask={ask} /> : undefined}
      />
      {space && <Walked report={space} />}
    </>
  );
}

export function ContainersPage() {
  useLanguage();
  const query = useContainers();
  const { operate } = useRights();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const close = () => setDialog(null);
  return (
    <Page
      title="containers"
      actions={
        operate && <Button onClick={() => setDialog({ kind: "create" })}>{word("createContainer")}</Button>
      }
    >
      <Loaded query={query}>
        {(containers) => <ContainerTable containers={containers} ask={setDialog} />}
      </Loaded>
      {dialog?.kind === "create" && <ContainerForm close={close} />}
      {dialog?.kind === "edit" && <ContainerForm close={close} container={dialog.container} />}
      {dialog?.kind === "delete" && (
        <DeleteContainers names={dialog.names} after={dialog.done} close={close} />
      )}
    </Page>
  );
}
