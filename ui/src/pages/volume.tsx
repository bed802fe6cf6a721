import { Button, Group, SimpleGrid, Stack, Text } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ApiError } from "../api";
import { ClaimOfVolume } from "../claim-of-volume";
import {
  CreateVolume,
  DeleteSnapshots,
  DeleteVolumes,
  EditVolume,
  ReleaseVolume,
  ResizeVolume,
  RestoreVolume,
  TakeSnapshot,
} from "../dialogs";
import { age, bytes, ratio, time } from "../format";
import { useLanguage, word } from "../i18n";
import { type Branch, lineage } from "../lineage";
import { Bar, Facts, Loaded, Page, Panel, State } from "../parts";
import { Performance, VOLUME } from "../performance";
import { useCluster, useDisks, useRights, useSnapshots, useStores, useVolume, useVolumes } from "../queries";
import { reductionOf } from "../reduction";
import { volumeRoute } from "../router";
import type { Snapshot, Volume } from "../types";
import { EventsOfVolume } from "../volume-events";
import { quarantineOf, stateOf } from "../volume-facts";
import { TasksOf } from "./tasks";

type Dialog =
  | { kind: "resize" | "edit" | "snapshot" | "delete" | "clone" | "release" }
  | { kind: "delete-snapshot" | "clone-snapshot" | "restore"; snapshot: Snapshot };

function Tree({
  branch,
  here,
  act,
}: {
  branch: Branch;
  here: number;
  act: ((dialog: Dialog) => void) | null;
}) {
  const language = useLanguage();
  return (
    <>
      {branch.volume ? (
        <Link
          to="/volumes/$name"
          params={{ name: branch.volume.name }}
          style={{ fontWeight: branch.id === here ? 700 : 400 }}
          aria-current={branch.id === here ? "page" : undefined}
        >
          ◼ {branch.volume.name}
        </Link>
      ) : (
        <Text span size="sm" c="dimmed">
          ◻ {word("volumeGone", branch.id)}
        </Text>
      )}
      {branch.snapshots.length + branch.clones.length > 0 && (
        <ul>
          {branch.snapshots.map(({ snapshot, clones }) => (
            <li key={snapshot.id}>
              <Group gap="xs" component="span" display="inline-flex">
                <Text span size="sm">
                  ◷ {snapshot.name}
                </Text>
                <Text span size="xs" c="dimmed">
                  {time(snapshot.created_ms, language)} · {bytes(snapshot.mapped)}
                </Text>
                {act && branch.id === here && (
                  <>
                    <Button
                      size="compact-xs"
                      variant="default"
                      onClick={() => act({ kind: "clone-snapshot", snapshot })}
                    >
                      {word("clone")}
                    </Button>
                    <Button
                      size="compact-xs"
                      variant="default"
                      onClick={() => act({ kind: "restore", snapshot })}
                    >
                      {word("restore")}
                    </Button>
                    <Button
                      size="compact-xs"
                      variant="default"
                      onClick={() => act({ kind: "delete-snapshot", snapshot })}
                    >
                      {word("delete")}
                    </Button>
                  </>
                )}
              </Group>
              {clones.length > 0 && (
                <ul>
                  {clones.map((clone) => (
                    <li key={clone.id}>
                      <Tree branch={clone} here={here} act={act} />
                    </li>
                  ))}
                </ul>
              )}
            </li>
          ))}
          {branch.clones.map((clone) => (
            <li key={clone.id}>
              <Tree branch={clone} here={here} act={act} />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

/** What it has in common with others, once it was counted. */
function usageOf({ usage }: Volume): [string, string][] {
  const reduction = usage ? reductionOf(usage) : null;
  return usage
    ? [
        [word("shared"), bytes(usage.shared)],
        [word("exclusive"), bytes(usage.exclusive)],
        [word("frees"), bytes(usage.frees)],
        ...(reduction === null ? [] : [[word("reduction"), ratio(reduction)] as [string, string]]),
      ]
    : [];
}

function Details({ volume }: { volume: Volume }) {
  const language = useLanguage();
  const labels = Object.entries(volume.labels).map(([key, value]) => `${key}=${value}`);
  return (
    <Panel title={word("volume")}>
      <Stack gap="sm">
        <Bar label={word("mapped")} used={volume.mapped} whole={volume.size} />
        <Facts
          facts={[
            [word("state"), <State key="state" state={stateOf(volume)} of="state" />],
            ...(volume.reason ? ([[word("reason"), volume.reason]] as [string, string][]) : []),
            ...quarantineOf(volume, language),
            [word("size"), bytes(volume.size)],
            [word("mapped"), bytes(volume.mapped)],
            [word("undrained"), bytes(volume.undrained)],
            ...usageOf(volume),
            [word("container"), volume.container],
            [word("iopsLimit"), volume.iops_limit ?? word("noLimit")],
            [
              word("bandwidthLimit"),
              volume.bandwidth_limit ? bytes(volume.bandwidth_limit) : word("noLimit"),
            ],
            [word("created"), time(volume.created_ms, language)],
            [word("labels"), labels.join(", ") || "–"],
            [word("description"), volume.description ?? "–"],
          ]}
        />
      </Stack>
    </Panel>
  );
}

/** Where its data is: store, node, and the disks of the store. */
function DataOn({ placement }: { placement: { store: number; bytes: number }[] }) {
  const disks = useDisks().data ?? [];
  return (
    <>
      {placement.map((part) => {
        const own = disks.filter((disk) => disk.store === part.store);
        const paths = own.map((disk) => disk.path).filter((path) => path !== "");
        return (
          <div key={part.store}>
            {bytes(part.bytes)}: store-{part.store}
            {own[0] && ` (${own[0].node})`}
            {paths.length > 0 && `, ${paths.join(", ")}`}
          </div>
        );
      })}
    </>
  );
}

/** Whom it is attached to, and what its owner hears of them. */
function Clients({ volume: { attachment, clients } }: { volume: Volume }) {
  if (attachment.clients.length === 0) {
    return word("nobody");
  }
  return (
    <>
      {attachment.clients.map((name) => {
        const one = clients?.find((client) => client.name === name);
        const what = one?.heard ? "clientHeard" : "clientUnheard";
        return (
          <div key={name}>
            {name}
            {one && ` (${word(what, one.sessions, age(one.silent_ms))})`}
          </div>
        );
      })}
      {attachment.read_only && `(${word("readOnly")})`}
    </>
  );
}

function Placement({ volume }: { volume: Volume }) {
  const nodes = useCluster().data?.nodes ?? [];
  const stores = useStores().data ?? [];
  const placement = volume.placement ?? [];
  const nodeName = (id: number | null | undefined) => nodes.find((node) => node.id === id)?.name ?? "–";
  const copies = volume.log.map(
    ({ store }) => `store-${store} (${nodeName(stores.find((one) => one.id === store)?.node)})`,
  );
  return (
    <Panel title={word("placement")}>
      <Facts
        facts={[
          [word("owner"), nodeName(volume.owner)],
          [word("epoch"), volume.epoch],
          [word("dataProtection"), word(volume.rf === 1 ? "replicatedOnce" : "replicated", volume.rf)],
          [word("logCopies"), copies.join(", ") || "–"],
          ...(placement.length > 0
            ? ([[word("dataOn"), <DataOn key="data" placement={placement} />]] as [string, ReactNode][])
            : []),
          [word("clients"), <Clients key="clients" volume={volume} />],
        ]}
      />
    </Panel>
  );
}

function Dialogs({
  volume,
  dialog,
  close,
  after,
}: {
  volume: Volume;
  dialog: Dialog;
  close: () => void;
  after: () => void;
}) {
  switch (dialog.kind) {
    case "resize":
      return <ResizeVolume close={close} volume={volume} />;
    case "edit":
      return <EditVolume close={close} volume={volume} />;
    case "release":
      return <ReleaseVolume close={close} volume={volume.name} />;
    case "snapshot":
      return <TakeSnapshot close={close} volumes={[volume.name]} />;
    case "delete":
      return <DeleteVolumes close={close} volumes={[volume]} after={after} />;
    case "clone":
      return <CreateVolume close={close} from={{ volume: volume.name }} />;
    case "clone-snapshot":
      return <CreateVolume close={close} from={{ volume: volume.name, snapshot: dialog.snapshot.name }} />;
    case "restore":
      return <RestoreVolume close={close} volume={volume.name} snapshot={dialog.snapshot.name} />;
    case "delete-snapshot":
      return <DeleteSnapshots close={close} snapshots={[dialog.snapshot]} />;
  }
}

export function VolumePage() {
  useLanguage();
  const { name } = volumeRoute.useParams();
  const navigate = useNavigate();
  const query = useVolume(name);
  const volumes = useVolumes().data ?? [];
  const snapshots = useSnapshots().data ?? [];
  const { operate } = useRights();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  if (query.error instanceof ApiError && query.error.kind === "not-found") {
    return (
      <Page name={name}>
        <Text role="alert">{word("noSuchVolume")}</Text>
      </Page>
    );
  }
  const action = (kind: "resize" | "edit" | "snapshot" | "clone" | "release", text: string) => (
    <Button variant="default" disabled={!query.data} onClick={() => setDialog({ kind })}>
      {text}
    </Button>
  );
  return (
    <Page
      name={name}
      actions={
        operate && (
          <>
            {action("snapshot", word("takeSnapshot"))}
            {action("clone", word("clone"))}
            {action("resize", word("resize"))}
            {action("edit", word("edit"))}
            {query.data?.quarantine_until_ms ? action("release", word("releaseVolume")) : null}
            <Button color="red" disabled={!query.data} onClick={() => setDialog({ kind: "delete" })}>
              {word("delete")}
            </Button>
          </>
        )
      }
    >
      <Loaded query={query}>
        {(volume) => (
          <>
            <SimpleGrid cols={{ base: 1, md: 2 }}>
              <Details volume={volume} />
              <Stack>
                <ClaimOfVolume volume={volume} />
                <Placement volume={volume} />
                <Panel title={word("lineage")}>
                  <ul className="tree">
                    <li>
                      <Tree
                        branch={lineage(
                          volumes.some((one) => one.id === volume.id) ? volumes : [...volumes, volume],
                          snapshots,
                          volume.id,
                        )}
                        here={volume.id}
                        act={operate ? setDialog : null}
                      />
                    </li>
                  </ul>
                </Panel>
              </Stack>
            </SimpleGrid>
            <Link to="/logs" search={{ volume: volume.name }}>
              {word("logsOf")}
            </Link>
            <TasksOf subjects={[`volume/${volume.id}`]} />
            <EventsOfVolume volume={volume} />
            <Performance entity={`volume/${volume.name}`} charts={VOLUME} />
            {dialog && (
              <Dialogs
                volume={volume}
                dialog={dialog}
                close={() => setDialog(null)}
                after={() => void navigate({ to: "/volumes" })}
              />
            )}
          </>
        )}
      </Loaded>
    </Page>
  );
}
