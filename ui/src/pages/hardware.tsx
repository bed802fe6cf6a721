// Nodes and disks: what wants to join, what is there, and what is being done with it.

import { Button, Group, Stack, Tabs, Text } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Diagram } from "../diagram";
import { DisksTable } from "../disks-table";
import { hardwareSearchOf, VIEWS } from "../hardware";
import { useLanguage, word } from "../i18n";
import { type Ask, nodeMember, useChange } from "../member-dialogs";
import { NodesTable } from "../nodes-table";
import { inOrder, Loaded, Page, Panel, State } from "../parts";
import { useCluster, useRights, useStores } from "../queries";
import type { Node } from "../types";
import { HardwareTasks } from "./tasks";

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
                aria-label={`${word("approve")}: ${node.name}`}
                onClick={() => ask(nodeMember(node), "approve")}
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

function Views({ nodes, ask }: { nodes: Node[]; ask: Ask }) {
  const navigate = useNavigate();
  const stores = useStores();
  const view = useSearch({ from: "/hardware" }).view ?? "diagram";
  const turn = (to: string | null) =>
    void navigate({ to: "/hardware", search: hardwareSearchOf({ view: to }), replace: true });
  return (
    <Tabs value={view} onChange={turn} keepMounted={false}>
      <Tabs.List mb="md">
        {VIEWS.map((one) => (
          <Tabs.Tab key={one} value={one}>
            {word(one)}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      <Tabs.Panel value="diagram">
        <Loaded query={stores}>{(all) => <Diagram nodes={nodes} stores={all} ask={ask} />}</Loaded>
      </Tabs.Panel>
      <Tabs.Panel value="nodes">
        <Loaded query={stores}>{(all) => <NodesTable nodes={nodes} stores={all} ask={ask} />}</Loaded>
      </Tabs.Panel>
      <Tabs.Panel value="disks">
        <DisksTable />
      </Tabs.Panel>
    </Tabs>
  );
}

export function HardwarePage() {
  useLanguage();
  const cluster = useCluster();
  const { ask, dialog } = useChange();
  return (
    <Page title="hardware">
      <Loaded query={cluster}>
        {({ nodes }) => (
          <>
            <Candidates nodes={nodes.filter((node) => node.candidate)} ask={ask} />
            <HardwareTasks />
            <Views nodes={inOrder(nodes.filter((node) => !node.candidate))} ask={ask} />
          </>
        )}
      </Loaded>
      {dialog}
    </Page>
  );
}
