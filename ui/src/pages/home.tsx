import { Button, Group, Modal, SimpleGrid, Stack, Table, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Link } from "@tanstack/react-router";
import { urgent } from "../alerts";
import { bytes, percent, seconds } from "../format";
import { Fills, Parts, Quarantined, RecentEvents, Reduction, VERDICTS } from "../home-panels";
import { valueWord, type Word, word } from "../i18n";
import { Bar, Facts, inOrder, Loaded, Page, Panel, State } from "../parts";
import { Busiest, CLUSTER, Performance } from "../performance";
import { useAlerts, useCluster, useResiliency, useSpace, useStores, useVolumes } from "../queries";
import type { Resiliency } from "../types";
import { stateOf } from "../volume-facts";

const LARGEST = 5;
const ALERTS_MAX = 5;

function Capacity() {
  const query = useResiliency();
  const volumes = useVolumes().data;
  // Asked for here and not inside: what is drawn later would ask once more.
  const space = useSpace().data;
  return (
    <Panel title={word("capacity")}>
      <Loaded query={query}>
        {({ capacity }) => (
          <Stack gap="xs">
            <Bar
              label={word("used")}
              used={capacity.used}
              whole={capacity.total}
              limit={capacity.resilient}
            />
            <Text size="sm">
              {bytes(capacity.used)} {word("of")} {bytes(capacity.total)} (
              {percent(capacity.used, capacity.total).toFixed(1)} %)
            </Text>
            <Facts
              facts={[
                [word("resilientLimit"), bytes(capacity.resilient)],
                [word("fullest"), `${capacity.fullest_percent} %`],
                [word("provisioned"), volumes ? bytes(volumes.reduce((sum, one) => sum + one.size, 0)) : "–"],
                [word("mapped"), volumes ? bytes(volumes.reduce((sum, one) => sum + one.mapped, 0)) : "–"],
              ]}
            />
            <Text size="xs" c="dimmed">
              {word(capacity.used > capacity.resilient ? "overResilient" : "resilientHint")}
            </Text>
            {space && <Fills report={space} />}
          </Stack>
        )}
      </Loaded>
    </Panel>
  );
}

/** What the verdict rests on, part by part. */
function Grounds({ resiliency, close }: { resiliency: Resiliency; close: () => void }) {
  const { components = [], repair } = resiliency;
  return (
    <Modal
      opened
      onClose={close}
      size="xl"
      title={word("resiliency")}
      closeButtonProps={{ "aria-label": word("close") }}
    >
      <Stack>
        {components.length > 0 && <Parts parts={components} />}
        <Table aria-label={word("dataByCopies")}>
          <Table.Thead>
            <Table.Tr>
              {(["copies", "keptApart", "groups", "lacking", "unavailable", "tolerates"] as Word[]).map(
                (title) => (
                  <Table.Th key={title}>{word(title)}</Table.Th>
                ),
              )}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {resiliency.data.map((row) => (
              <Table.Tr key={row.rf}>
                <Table.Td>{row.rf}</Table.Td>
                <Table.Td>{valueWord("domain", row.domain)}</Table.Td>
                <Table.Td>{row.groups}</Table.Td>
                <Table.Td>{row.degraded}</Table.Td>
                <Table.Td>{row.unavailable}</Table.Td>
                <Table.Td>{row.tolerates}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
        <Text fw={600} size="sm">
          {word("repair")}
        </Text>
        {repair.filling + repair.waiting === 0 ? (
          <Text size="sm">{word("repairNone")}</Text>
        ) : (
          <Facts
            facts={[
              [word("filling"), repair.filling],
              [word("filled"), repair.filled],
              [word("waitingForStore"), repair.waiting],
              [word("remaining"), repair.eta_seconds === null ? "–" : seconds(repair.eta_seconds)],
            ]}
          />
        )}
      </Stack>
    </Modal>
  );
}

function Verdict() {
  const query = useResiliency();
  const [open, { open: show, close }] = useDisclosure(false);
  return (
    <Panel
      title={word("resiliency")}
      action={
        <Button size="compact-sm" variant="default" onClick={show} disabled={!query.data}>
          {word("verdictMore")}
        </Button>
      }
    >
      <Loaded query={query}>
        {(resiliency) => (
          <Stack gap="xs">
            <Group>
              <State state={resiliency.verdict}>{word(VERDICTS[resiliency.verdict] ?? "degraded")}</State>
            </Group>
            {resiliency.reasons.length === 0 ? (
              <Text size="sm">{word("verdictOk")}</Text>
            ) : (
              <ul style={{ margin: 0, paddingLeft: 18 }}>
                {resiliency.reasons.map((one) => (
                  <Text component="li" size="sm" key={one}>
                    {one}
                  </Text>
                ))}
              </ul>
            )}
            {open && <Grounds resiliency={resiliency} close={close} />}
          </Stack>
        )}
      </Loaded>
    </Panel>
  );
}

/** Critical alerts and warnings, those first that nobody has acknowledged. */
function Alerts() {
  const query = useAlerts("open");
  return (
    <Panel
      title={word("alerts")}
      action={
        <Link to="/alerts" style={{ fontSize: 14 }}>
          {word("alertsMore")}
        </Link>
      }
    >
      <Loaded query={query}>
        {({ alerts }) => {
          const shown = urgent(alerts, ALERTS_MAX);
          if (shown.length === 0) {
            return <Text size="sm">{word("alertsNone")}</Text>;
          }
          return (
            <Stack gap="xs">
              {shown.map((alert) => (
                <div key={alert.id}>
                  <Group gap="xs" wrap="nowrap" align="flex-start">
                    <State state={alert.severity} of="severity" />
                    <div>
                      <Text size="sm">{alert.cause}</Text>
                      <Text size="xs" c="dimmed">
                        {alert.acknowledged
                          ? `${word("alertAcknowledged")}: ${alert.acknowledged.by ?? "–"}`
                          : alert.remedy}
                      </Text>
                    </div>
                  </Group>
                </div>
              ))}
            </Stack>
          );
        }}
      </Loaded>
    </Panel>
  );
}

function Members() {
  const cluster = useCluster();
  const stores = useStores().data ?? [];
  return (
    <Panel title={word("nodes")}>
      <Loaded query={cluster}>
        {({ nodes }) => (
          <Stack gap="sm">
            {inOrder(nodes).map((node) => {
              const own = stores.filter((store) => store.node === node.id);
              const used = own.reduce((sum, store) => sum + store.used, 0);
              const whole = own.reduce((sum, store) => sum + store.capacity, 0);
              const present = node.candidate ? "candidate" : "alive";
              const state = node.alive ? present : "away";
              return (
                <div key={node.id}>
                  <Group justify="space-between" mb={4}>
                    <Text size="sm" fw={600}>
                      {node.name}
                    </Text>
                    <Group gap="xs">
                      <Text size="xs" c="dimmed">
                        {bytes(used)} {word("of")} {bytes(whole)}
                      </Text>
                      <State state={state}>{word(state)}</State>
                    </Group>
                  </Group>
                  <Bar label={`${node.name}: ${word("fill")}`} used={used} whole={whole} small />
                </div>
              );
            })}
          </Stack>
        )}
      </Loaded>
    </Panel>
  );
}

function Largest() {
  const query = useVolumes();
  return (
    <Panel title={word("largest")}>
      <Loaded query={query}>
        {(volumes) => {
          const largest = volumes.toSorted((one, other) => other.mapped - one.mapped).slice(0, LARGEST);
          if (largest.length === 0) {
            return <Text size="sm">{word("nothing")}</Text>;
          }
          return (
            <Stack gap="sm">
              {largest.map((volume) => (
                <div key={volume.id}>
                  <Group justify="space-between" mb={4}>
                    <Group gap="xs">
                      <Link to="/volumes/$name" params={{ name: volume.name }} style={{ fontSize: 14 }}>
                        {volume.name}
                      </Link>
                      {stateOf(volume) === "quarantine" && <State state="quarantine" of="state" />}
                    </Group>
                    <Text size="xs" c="dimmed">
                      {bytes(volume.mapped)} {word("of")} {bytes(volume.size)}
                    </Text>
                  </Group>
                  <Bar
                    label={`${volume.name}: ${word("mapped")}`}
                    used={volume.mapped}
                    whole={volume.size}
                    small
                  />
                </div>
              ))}
            </Stack>
          );
        }}
      </Loaded>
    </Panel>
  );
}

function About() {
  const cluster = useCluster();
  const volumes = useVolumes().data;
  return (
    <Loaded query={cluster}>
      {({ id, version, nodes }) => (
        <Text size="xs" c="dimmed">
          {word("clusterId")} {id} · {word("version")} {version} · {nodes.length} {word("nodes")} ·{" "}
          {volumes?.length ?? "–"} {word("volumes")}
        </Text>
      )}
    </Loaded>
  );
}

export function HomePage() {
  return (
    <Page title="home">
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Capacity />
        <Verdict />
        <Quarantined />
        <Alerts />
        <RecentEvents />
        <Reduction />
        <Members />
        <Largest />
        <Busiest />
      </SimpleGrid>
      <Performance entity="cluster" charts={CLUSTER} />
      <About />
    </Page>
  );
}
