// What clients do with something, as charts with ranges; and the busiest volumes.

import { Alert, Group, SegmentedControl, SimpleGrid, Stack, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { Chart, type Line } from "./chart";
import { bytes, count, micros, perSecond } from "./format";
import { type Word, word } from "./i18n";
import { Loaded, Panel } from "./parts";
import { useBusiest, useMetrics } from "./queries";
import { times, valuesOf } from "./series";
import type { Metrics } from "./types";

const HOUR = 3600;
const RANGES: { title: Word; seconds: number }[] = [
  { title: "range1h", seconds: HOUR },
  { title: "range6h", seconds: 6 * HOUR },
  { title: "range24h", seconds: 24 * HOUR },
  { title: "range7d", seconds: 7 * 24 * HOUR },
  { title: "range90d", seconds: 90 * 24 * HOUR },
];

interface Drawn {
  title: Word;
  format: (value: number) => string;
  lines: [metric: string, label: Word][];
}

const OPERATIONS: Drawn = {
  title: "operations",
  format: count,
  lines: [
    ["read_iops", "reads"],
    ["write_iops", "writes"],
  ],
};
const BANDWIDTH: Drawn = {
  title: "bandwidth",
  format: perSecond,
  lines: [
    ["read_bandwidth", "reads"],
    ["write_bandwidth", "writes"],
  ],
};
const LATENCY: Drawn = {
  title: "latency",
  format: micros,
  lines: [
    ["read_latency_p50", "readMedian"],
    ["read_latency_p99", "read99"],
    ["write_latency_p50", "writeMedian"],
    ["write_latency_p99", "write99"],
  ],
};
const PROCESSOR: Drawn = {
  title: "processor",
  format: (value) => `${count(value)} %`,
  lines: [["cpu_percent", "ofOneCore"]],
};

const SPACE: Drawn = {
  title: "space",
  format: bytes,
  lines: [
    ["used", "used"],
    ["capacity", "capacity"],
  ],
};
const MAPPED: Drawn = { title: "space", format: bytes, lines: [["mapped", "mapped"]] };

/** Charts for what clients do. */
export const ACTIVITY = [OPERATIONS, BANDWIDTH, LATENCY];
/** Charts for a volume. */
export const VOLUME = [...ACTIVITY, MAPPED];
/** Charts for the cluster. */
export const CLUSTER = [...ACTIVITY, SPACE];
/** Charts for a node. */
export const NODE = [...ACTIVITY, PROCESSOR, SPACE];
/** Charts for a store: what its disks do. */
export const STORE = [OPERATIONS, BANDWIDTH, SPACE];

function Drawing({ answer, drawn }: { answer: Metrics; drawn: Drawn }) {
  const lines = useMemo<Line[]>(
    () => drawn.lines.map(([metric, label]) => ({ label: word(label), values: valuesOf(answer, metric) })),
    [answer, drawn],
  );
  const steps = useMemo(() => times(answer), [answer]);
  return <Chart title={word(drawn.title)} times={steps} lines={lines} format={drawn.format} />;
}

/** Charts of an entity of the API, such as `cluster` or `volume/db`. */
export function Performance({ entity, charts, title }: { entity: string; charts: Drawn[]; title?: string }) {
  const [range, setRange] = useState(HOUR);
  const metrics = charts.flatMap((drawn) => drawn.lines.map(([metric]) => metric));
  const query = useMetrics(entity, metrics, range);
  const name = title ?? word("performance");
  return (
    <Panel
      title={name}
      action={
        <SegmentedControl
          size="xs"
          aria-label={`${word("range")}: ${name}`}
          value={String(range)}
          onChange={(value) => setRange(Number(value))}
          data={RANGES.map((one) => ({ value: String(one.seconds), label: word(one.title) }))}
        />
      }
    >
      <Loaded query={query}>
        {(answer) => (
          <Stack gap="sm">
            {answer.silent.length > 0 && (
              <Alert color="yellow" variant="outline" p="xs">
                {word("silentNodes", answer.silent.join(", "))}
              </Alert>
            )}
            <SimpleGrid cols={{ base: 1, md: Math.min(charts.length, 3) }}>
              {charts.map((drawn) => (
                <Drawing key={drawn.title} answer={answer} drawn={drawn} />
              ))}
            </SimpleGrid>
          </Stack>
        )}
      </Loaded>
    </Panel>
  );
}

const BUSIEST_SHOWN = 5;

/** The busiest volumes of the last 15 seconds. */
export function Busiest() {
  const query = useBusiest();
  return (
    <Panel title={word("busiest")}>
      <Loaded query={query}>
        {(answer) => {
          const busy = answer.volumes.filter((one) => one.rates.iops > 0).slice(0, BUSIEST_SHOWN);
          if (busy.length === 0) {
            return <Text size="sm">{word(answer.at_ms === 0 ? "noFiguresYet" : "nobodyBusy")}</Text>;
          }
          return (
            <Table aria-label={word("busiest")}>
              <Table.Thead>
                <Table.Tr>
                  {(["name", "operations", "bandwidth", "latency"] as Word[]).map((title, at) => (
                    <Table.Th key={title} ta={at === 0 ? "left" : "right"}>
                      {word(title)}
                    </Table.Th>
                  ))}
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {busy.map((one) => (
                  <Table.Tr key={one.id}>
                    <Table.Td>
                      <Link to="/volumes/$name" params={{ name: one.name }}>
                        {one.name}
                      </Link>
                    </Table.Td>
                    <Table.Td ta="right">{count(one.rates.iops)}</Table.Td>
                    <Table.Td ta="right">{perSecond(one.rates.bandwidth)}</Table.Td>
                    <Table.Td ta="right">
                      {one.rates.latency_us === null ? "–" : micros(one.rates.latency_us)}
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          );
        }}
      </Loaded>
      {(query.data?.silent.length ?? 0) > 0 && (
        <Group mt="xs">
          <Text size="xs" c="dimmed">
            {word("silentNodes", query.data?.silent.join(", ") ?? "")}
          </Text>
        </Group>
      )}
    </Panel>
  );
}
