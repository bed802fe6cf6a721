// Nodes and disks: what wants to join, what is there, and what is being done with it.

import { Button, Group, Stack, Tabs, Text } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { call, path } from "../api";
import { Diagram } from "../diagram";
import { refresh } from "../dialogs";
import { DisksTable } from "../disks-table";
import { GroupsTable } from "../groups-table";
import { hardwareSearchOf, VIEWS } from "../hardware";
import { useLanguage, word } from "../i18n";
import { type Ask, useChange } from "../member-dialogs";
import { NodesTable } from "../nodes-table";
import { inOrder, Loaded, Page, Panel, reason, State, tell } from "../parts";
import { useCluster, useRights, useStores } from "../queries";
import { StoresTable } from "../stores-table";
import type { Node } from "../types";
import { HardwareTasks } from "./tasks";

/** One click: what becomes of it is among the tasks. */
function Approve({ node }: { node: Node }) {
  const approve = useMutation({
    mutationFn: () => call("PATCH", `/nodes${path(node.name)}`, { approved: true }),
    onSuccess: async () => {
      tell(`${word("approve")}: ${node.name}`);
      await refresh("cluster", "stores", "resiliency");
    },
  });
  return (
    <Stack gap={4} align="flex-end">
      <Button
        size="xs"
        aria-label={`${word("approve")}: ${node.name}`}
        title={word("approveHint")}
        loading={approve.isPending}
        onClick={() => approve.mutate()}
      >
        {word("approve")}
      </Button>
      {approve.error && (
        <Text role="alert" size="xs">
          {reason(approve.error)}
        </Text>
      )}
    </Stack>
  );
}

function Candidates({ nodes }: { nodes: Node[] }) {
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
            {operate && <Approve node={node} />}
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
      <Tabs.Panel value="stores">
        <Loaded query={stores}>{(all) => <StoresTable nodes={nodes} stores={all} ask={ask} />}</Loaded>
      </Tabs.Panel>
      <Tabs.Panel value="disks">
        <DisksTable />
      </Tabs.Panel>
      <Tabs.Panel value="placement">
        <GroupsTable />
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
            <Candidates nodes={nodes.filter((node) => node.candidate)} />
            <HardwareTasks />
            <Views nodes={inOrder(nodes.filter((node) => !node.candidate))} ask={ask} />
          </>
        )}
      </Loaded>
      {dialog}
    </Page>
  );
}
