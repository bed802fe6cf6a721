// The nodes with their stores and disks, in boxes for the failure domains around them.

import { Card, Group, Stack, Text, Title, type TitleOrder } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { type Domain, domainTree, nodesIn, spaceOf } from "./domains";
import { bytes, time } from "./format";
import { disksByStore, isExcused } from "./hardware";
import { useLanguage, word } from "./i18n";
import { Actions, type Ask, nodeMember, storeMember } from "./member-dialogs";
import { Bar, Facts, Panel, State } from "./parts";
import { useDisks } from "./queries";
import type { Disk, Node, Store } from "./types";

/** Where the disks of a store are, how they are as far as their store tells, and which of them shines. */
function Disks({ store, disks }: { store: Store; disks: Disk[] }) {
  return (
    <ul aria-label={`${word("disks")}: store-${store.id}`} style={{ margin: 0, paddingLeft: 18 }}>
      {disks.map((disk) => (
        <li key={disk.path}>
          <Group gap="xs">
            <Text size="xs" style={{ overflowWrap: "anywhere" }}>
              {disk.path || word("locateAway")}
            </Text>
            {disk.size !== null && (
              <Text size="xs" c="dimmed">
                {bytes(disk.size)}
              </Text>
            )}
            <State state={disk.state} of="state" />
            {disk.light === true && <State state="candidate">{word("lightOn")}</State>}
          </Group>
        </li>
      ))}
    </ul>
  );
}

function StoreRow({ store, disks, ask }: { store: Store; disks: Disk[]; ask: Ask }) {
  const language = useLanguage();
  const member = storeMember(store.id);
  const excused = isExcused(store, Date.now());
  return (
    <Stack gap={4} style={{ borderTop: "1px solid var(--mantine-color-default-border)" }} pt="xs">
      <Group justify="space-between">
        <Group gap="xs">
          <Text size="sm" fw={600}>
            {member.name}
          </Text>
          <State state={store.state} of="state" />
          {store.standing !== "present" && <State state={store.standing} of="standing" />}
          {excused && (
            <State state="away">
              {word("maintenance")} {word("until")} {time(store.maintenance_until_ms ?? 0, language)}
            </State>
          )}
        </Group>
        <Actions member={member} draining={store.standing === "draining"} excused={excused} ask={ask} />
      </Group>
      <Bar label={`${member.name}: ${word("fill")}`} used={store.used} whole={store.capacity} small />
      <Text size="xs" c="dimmed">
        {bytes(store.used)} {word("of")} {bytes(store.capacity)} · {word("journal")}{" "}
        {bytes(store.journal_used)} {word("of")} {bytes(store.journal_capacity)} · {store.extents}{" "}
        {word("extents")} · {store.groups} {word("groups")}
        {store.filling > 0 && ` · ${store.filling} ${word("filling")}`}
      </Text>
      {store.reason && <Text size="xs">{store.reason}</Text>}
      {disks.length > 0 && <Disks store={store} disks={disks} />}
    </Stack>
  );
}

interface Shown {
  stores: Store[];
  /** By store. */
  disks: Map<number, Disk[]>;
  ask: Ask;
  order: TitleOrder;
}

function NodeCard({ node, stores, disks, ask, order }: Shown & { node: Node }) {
  const language = useLanguage();
  const excused = isExcused(node, Date.now());
  return (
    <Panel
      title={node.name}
      order={order}
      action={<Actions member={nodeMember(node)} draining={node.draining} excused={excused} ask={ask} />}
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
            [word("release"), node.release || "–"],
            [word("address"), node.address],
            ["API", node.api ?? "–"],
            ["NBD", node.nbd ?? "–"],
          ]}
        />
        {stores
          .filter((store) => store.node === node.id)
          .map((store) => (
            <StoreRow key={store.id} store={store} disks={disks.get(store.id) ?? []} ask={ask} />
          ))}
      </Stack>
    </Panel>
  );
}

/** Headings have six levels; domains may have more. */
const below = (order: TitleOrder): TitleOrder => Math.min(6, order + 1) as TitleOrder;

function DomainBox({ domain, ...shown }: Shown & { domain: Domain }) {
  const nodes = nodesIn(domain);
  const { used, capacity } = spaceOf(nodes, shown.stores);
  return (
    <Card
      withBorder
      padding="md"
      component="section"
      aria-label={`${word("failureDomain")}: ${domain.name}`}
      style={{ borderStyle: "dashed" }}
    >
      <Group justify="space-between" mb="sm">
        <Title order={shown.order} size="h5">
          {domain.name}
        </Title>
        <Text size="sm" c="dimmed">
          {word("nodes")}: {nodes.length} · {word("used")}: {bytes(used)} {word("of")} {bytes(capacity)}
        </Text>
      </Group>
      <Inside domain={domain} {...shown} order={below(shown.order)} />
    </Card>
  );
}

function Inside({ domain, ...shown }: Shown & { domain: Domain }) {
  return (
    <Stack gap="md">
      {domain.domains.length > 0 && (
        <div className="domain-boxes">
          {domain.domains.map((inner) => (
            <DomainBox key={inner.name} domain={inner} {...shown} />
          ))}
        </div>
      )}
      {domain.nodes.length > 0 && (
        <div className="node-cards">
          {domain.nodes.map((node) => (
            <NodeCard key={node.id} node={node} {...shown} />
          ))}
        </div>
      )}
    </Stack>
  );
}

export function Diagram({ nodes, stores, ask }: { nodes: Node[]; stores: Store[]; ask: Ask }) {
  // Every node is asked for its own: what is known already is drawn meanwhile.
  const disks = useDisks().data;
  const byStore = useMemo(() => disksByStore(disks ?? []), [disks]);
  return <Inside domain={domainTree(nodes, stores)} stores={stores} disks={byStore} ask={ask} order={2} />;
}
