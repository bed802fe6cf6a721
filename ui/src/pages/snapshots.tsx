import { Button, Tabs } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { CreateVolume, DeleteSnapshots } from "../dialogs";
import { bytes, time } from "../format";
import { GroupSnapshotsTable } from "../group-snapshots";
import { namesOfGroups } from "../groups-of-snapshots";
import { useLanguage, valueWord, word } from "../i18n";
import { Loaded, Page, State } from "../parts";
import { useGroupSnapshots, useRights, useSnapshots } from "../queries";
import { snapshotsRoute } from "../router";
import { type Column, DataTable } from "../table";
import type { Snapshot } from "../types";

type Dialog = { kind: "delete"; snapshots: Snapshot[] } | { kind: "clone"; snapshot: Snapshot };

function columns(language: string, groups: Map<string, string>): Column<Snapshot>[] {
  const group = ({ group }: Snapshot) => group && (groups.get(group) ?? group);
  return [
    { id: "name", title: word("name"), value: (one) => one.name, width: "minmax(160px, 2fr)" },
    {
      id: "volume",
      title: word("ofVolume"),
      value: (one) => one.volume ?? word("volumeGone", one.volume_id),
      show: (one) =>
        one.volume === null ? (
          word("volumeGone", one.volume_id)
        ) : (
          <Link to="/volumes/$name" params={{ name: one.volume }}>
            {one.volume}
          </Link>
        ),
      width: "minmax(160px, 2fr)",
    },
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
      id: "state",
      title: word("state"),
      value: (one) => valueWord("state", one.state),
      show: (one) => <State state={one.state} of="state" />,
    },
    {
      id: "group",
      title: word("groupSnapshot"),
      value: group,
      show: (one) =>
        one.group ? (
          <Link to="/snapshots" search={{ tab: "groups", filter: group(one) ?? one.group }}>
            {group(one)}
          </Link>
        ) : (
          "–"
        ),
      width: "minmax(130px, 1fr)",
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

function SnapshotsTable({ filter }: { filter?: string }) {
  const language = useLanguage();
  const query = useSnapshots();
  const { operate } = useRights();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const close = () => setDialog(null);
  const groups = useGroupSnapshots((query.data ?? []).some((one) => one.group !== null)).data;
  const shown = useMemo(() => columns(language, namesOfGroups(groups)), [language, groups]);
  return (
    <>
      <Loaded query={query}>
        {(snapshots) => (
          <DataTable
            key={filter}
            first={filter}
            label={word("snapshots")}
            rows={snapshots}
            columns={shown}
            id={(one) => `${one.volume ?? `volume-${one.volume_id}`}@${one.name}`}
            actions={
              operate
                ? (chosen) => (
                    <>
                      {chosen.length === 1 && chosen[0] && (
                        <Button
                          size="xs"
                          variant="default"
                          onClick={() => chosen[0] && setDialog({ kind: "clone", snapshot: chosen[0] })}
                        >
                          {word("clone")}
                        </Button>
                      )}
                      <Button
                        size="xs"
                        color="red"
                        onClick={() => setDialog({ kind: "delete", snapshots: chosen })}
                      >
                        {word("delete")}
                      </Button>
                    </>
                  )
                : undefined
            }
          />
        )}
      </Loaded>
      {dialog?.kind === "delete" && <DeleteSnapshots close={close} snapshots={dialog.snapshots} />}
      {dialog?.kind === "clone" && (
        <CreateVolume
          close={close}
          from={{
            volume: dialog.snapshot.volume ?? `volume-${dialog.snapshot.volume_id}`,
            snapshot: dialog.snapshot.name,
          }}
        />
      )}
    </>
  );
}

/** Snapshots, and the points in time of several volumes; the address says which. */
export function SnapshotsPage() {
  useLanguage();
  const navigate = useNavigate();
  const { tab, filter } = snapshotsRoute.useSearch();
  const turn = (to: string | null) =>
    void navigate({ to: "/snapshots", search: to === "groups" ? { tab: "groups" } : {}, replace: true });
  return (
    <Page title="snapshots">
      <Tabs value={tab ?? "snapshots"} onChange={turn} keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="snapshots">{word("snapshots")}</Tabs.Tab>
          <Tabs.Tab value="groups">{word("groupSnapshots")}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="snapshots">
          <SnapshotsTable filter={filter} />
        </Tabs.Panel>
        <Tabs.Panel value="groups">
          <GroupSnapshotsTable filter={filter} />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}
