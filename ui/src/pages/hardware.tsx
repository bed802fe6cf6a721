import { Button, Group, NumberInput, SimpleGrid, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { call, get, path } from "../api";
import { Form, refresh } from "../dialogs";
import { bytes, time } from "../format";
import { useLanguage, type Word, word } from "../i18n";
import { Bar, Facts, inOrder, Loaded, Page, Panel, State, tell } from "../parts";
import { useCluster, useRights, useStores } from "../queries";
import type { Node, Store } from "../types";

/** A node or a store. */
interface Member {
  kind: "nodes" | "stores";
  key: string | number;
  name: string;
}

type What = "approve" | "drain" | "endDrain" | "excuse" | "endExcuse" | "remove";

interface Ties {
  groups: number;
  leaving: number;
  logs: number;
  volumes: number;
  removable: boolean;
}

const HINTS: Partial<Record<What, Word>> = {
  approve: "approveHint",
  drain: "drainHint",
  excuse: "excuseHint",
  remove: "removeHint",
};

/** What keeps a member in the cluster. */
function TiesOf({ member }: { member: Member }) {
  const query = useQuery({
    queryKey: ["ties", member.kind, member.key],
    queryFn: () => get<Ties>(`/${member.kind}${path(member.key)}`),
    staleTime: 0,
  });
  return (
    <Loaded query={query}>
      {(ties) =>
        ties.removable ? (
          <Text size="sm">{word("removable")}</Text>
        ) : (
          <Facts
            facts={[
              [word("groups"), `${ties.groups} (+ ${ties.leaving})`],
              [word("tiesLogs"), ties.logs],
              [word("tiesVolumes"), ties.volumes],
            ]}
          />
        )
      }
    </Loaded>
  );
}

function Change({ member, what, close }: { member: Member; what: What; close: () => void }) {
  const [minutes, setMinutes] = useState<string | number>(60);
  const act = async () => {
    const where = `/${member.kind}${path(member.key)}`;
    const bodies: Record<Exclude<What, "remove">, object> = {
      approve: { approved: true },
      drain: { draining: true },
      endDrain: { draining: false },
      excuse: { maintenance_minutes: Number(minutes) },
      endExcuse: { maintenance_minutes: 0 },
    };
    if (what === "remove") {
      await call("DELETE", where);
    } else {
      await call("PATCH", where, bodies[what]);
    }
    tell(`${word(what)}: ${member.name}`);
    await refresh("cluster", "stores", "resiliency");
  };
  const hint = HINTS[what];
  return (
    <Form
      title={`${word(what)}: ${member.name}`}
      submit={word(what)}
      danger={what === "remove"}
      close={close}
      act={act}
    >
      {hint && <Text size="sm">{word(hint)}</Text>}
      {what === "excuse" && (
        <NumberInput label={word("minutes")} min={1} required value={minutes} onChange={setMinutes} />
      )}
      {(what === "drain" || what === "remove") && <TiesOf member={member} />}
    </Form>
  );
}

type Ask = (member: Member, what: What) => void;

function Actions({
  member,
  draining,
  excused,
  ask,
}: {
  member: Member;
  draining: boolean;
  excused: boolean;
  ask: Ask;
}) {
  const { operate, administer } = useRights();
  if (!operate) {
    return null;
  }
  const button = (what: What) => (
    <Button
      size="compact-xs"
      variant="default"
      aria-label={`${word(what)}: ${member.name}`}
      onClick={() => ask(member, what)}
    >
      {word(what)}
    </Button>
  );
  return (
    <Group gap={4}>
      {button(draining ? "endDrain" : "drain")}
      {button(excused ? "endExcuse" : "excuse")}
      {administer && button("remove")}
    </Group>
  );
}

function StoreRow({ store, ask }: { store: Store; ask: Ask }) {
  const member: Member = { kind: "stores", key: store.id, name: `store-${store.id}` };
  return (
    <Stack gap={4} style={{ borderTop: "1px solid var(--mantine-color-default-border)" }} pt="xs">
      <Group justify="space-between">
        <Group gap="xs">
          <Text size="sm" fw={600}>
            {member.name}
          </Text>
          <State state={store.state} />
          {store.standing !== "present" && <State state={store.standing} />}
        </Group>
        <Actions member={member} draining={store.standing === "draining"} excused={false} ask={ask} />
      </Group>
      <Bar label={`${member.name}: ${word("fill")}`} used={store.used} whole={store.capacity} small />
      <Text size="xs" c="dimmed">
        {bytes(store.used)} {word("of")} {bytes(store.capacity)} · {word("journal")}{" "}
        {bytes(store.journal_used)} {word("of")} {bytes(store.journal_capacity)} · {store.extents}{" "}
        {word("extents")} · {store.groups} {word("groups")}
        {store.filling > 0 && ` · ${store.filling} ${word("filling")}`}
      </Text>
      {store.reason && <Text size="xs">{store.reason}</Text>}
    </Stack>
  );
}

function NodeCard({ node, stores, ask }: { node: Node; stores: Store[]; ask: Ask }) {
  const language = useLanguage();
  const member: Member = { kind: "nodes", key: node.name, name: node.name };
  const excused = node.maintenance_until_ms > Date.now();
  return (
    <Panel
      title={node.name}
      action={<Actions member={member} draining={node.draining} excused={excused} ask={ask} />}
    >
      <Stack gap="sm">
        <Group gap="xs">
          <State state={node.alive ? "alive" : "away"}>{word(node.alive ? "alive" : "away")}</State>
          {node.draining && <State state="draining">{word("draining")}</State>}
          {excused && (
            <State state="away">
              {word("maintenance")} {word("until")} {time(node.maintenance_until_ms, language)}
            </State>
          )}
        </Group>
        <Link to="/hardware/$name" params={{ name: node.name }} style={{ fontSize: 14 }}>
          {word("performance")}: {node.name}
        </Link>
        <Facts
          facts={[
            [word("address"), node.address],
            ["API", node.api ?? "–"],
            ["NBD", node.nbd ?? "–"],
          ]}
        />
        {stores.map((store) => (
          <StoreRow key={store.id} store={store} ask={ask} />
        ))}
      </Stack>
    </Panel>
  );
}

function Candidates({ nodes, ask }: { nodes: Node[]; ask: Ask }) {
  const { operate } = useRights();
  if (nodes.length === 0) {
    return null;
  }
  return (
    <Panel title={word("candidates")}>
      <Stack gap="xs">
        {nodes.map((node) => (
          <Group key={node.id} justify="space-between">
            <Group gap="xs">
              <Text size="sm" fw={600}>
                {node.name}
              </Text>
              <Text size="sm" c="dimmed">
                {node.address}
              </Text>
              <State state="candidate">{word("candidate")}</State>
              {!node.alive && <State state="away">{word("away")}</State>}
            </Group>
            {operate && (
              <Button
                size="xs"
                onClick={() => ask({ kind: "nodes", key: node.name, name: node.name }, "approve")}
              >
                {word("approve")}
              </Button>
            )}
          </Group>
        ))}
      </Stack>
    </Panel>
  );
}

export function HardwarePage() {
  useLanguage();
  const cluster = useCluster();
  const stores = useStores();
  const [asked, setAsked] = useState<{ member: Member; what: What } | null>(null);
  const ask: Ask = (member, what) => setAsked({ member, what });
  return (
    <Page title="hardware">
      <Loaded query={cluster}>
        {({ nodes }) => (
          <>
            <Candidates nodes={nodes.filter((node) => node.candidate)} ask={ask} />
            <SimpleGrid cols={{ base: 1, lg: 2, xl: 3 }}>
              {inOrder(nodes)
                .filter((node) => !node.candidate)
                .map((node) => (
                  <NodeCard
                    key={node.id}
                    node={node}
                    stores={(stores.data ?? []).filter((store) => store.node === node.id)}
                    ask={ask}
                  />
                ))}
            </SimpleGrid>
          </>
        )}
      </Loaded>
      {asked && <Change member={asked.member} what={asked.what} close={() => setAsked(null)} />}
    </Page>
  );
}
