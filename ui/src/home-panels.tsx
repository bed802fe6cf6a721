// Parts of Home: what fills the stores, what is saved, what may be lost of each part, what happened last.

import { Group, Stack, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { bytes, signed, time } from "./format";
import { largestContainers, newest, partRows, reductions } from "./home";
import { useLanguage, valueWord, type Word, word } from "./i18n";
import { Facts, Loaded, Panel, State } from "./parts";
import { useEvents, useSpace, useVolumes } from "./queries";
import type { Part, SpaceReport } from "./types";
import { quarantined, quarantineOf } from "./volume-facts";

const CONTAINERS_MAX = 3;
const EVENTS_MAX = 8;
const QUARANTINED_MAX = 8;
export const VERDICTS: Record<string, Word> = { ok: "healthy", degraded: "degraded", critical: "critical" };
const PARTS: Record<string, Word> = {
  data: "partData",
  log: "partLog",
  capacity: "partCapacity",
  catalog: "partCatalog",
};

/** The word for what the API says, or just that. */
function said(words: Record<string, Word>, text: string): string {
  const known = words[text];
  return known ? word(known) : text;
}

/** Says so when the report does not have everything. */
export function Walked({ report: { walked, lineages } }: { report: SpaceReport }) {
  if (walked >= lineages) {
    return null;
  }
  return (
    <Text size="xs" c="dimmed">
      {word("walkedOf", walked, lineages)}
    </Text>
  );
}

/** What the capacity's bar is filled with. */
export function Fills({ report }: { report: SpaceReport }) {
  const { physical } = report;
  const containers = largestContainers(report.containers, CONTAINERS_MAX);
  const journal = `${bytes(physical.journal_used)} ${word("of")} ${bytes(physical.journal_capacity)}`;
  return (
    <>
      <Group justify="space-between">
        <Text size="sm" fw={600}>
          {word("fills")}
        </Text>
        <Link to="/space" style={{ fontSize: 14 }}>
          {word("fillsMore")}
        </Link>
      </Group>
      <Facts
        facts={[
          [word("spaceData"), bytes(physical.data)],
          [word("spaceUnsettled"), bytes(physical.unsettled)],
          [word("spaceOther"), signed(physical.other)],
          [word("journal"), journal],
        ]}
      />
      {containers.length > 0 && (
        <>
          <Text size="sm" fw={600}>
            {word("fillsContainers")}
          </Text>
          <Facts facts={containers.map((one) => [one.name, bytes(one.frees)])} />
        </>
      )}
      <Walked report={report} />
    </>
  );
}

/** What is saved, by what saves it. */
export function Reduction() {
  const query = useSpace();
  return (
    <Panel title={word("reduction")}>
      <Loaded query={query}>
        {(report) => {
          const kinds = reductions(report);
          return (
            <Stack gap="xs">
              {kinds.length === 0 ? (
                <Text size="sm">{word("reductionNone")}</Text>
              ) : (
                <Facts facts={kinds.map(([kind, text]) => [word(kind), text])} />
              )}
              <Walked report={report} />
            </Stack>
          );
        }}
      </Loaded>
    </Panel>
  );
}

/** What may be lost of each part of the cluster. */
export function Parts({ parts }: { parts: Part[] }) {
  const titles: Word[] = ["part", "lostAtATime", "copies", "tolerates", "state", "remedy"];
  return (
    <Table aria-label={word("parts")} verticalSpacing="xs">
      <Table.Thead>
        <Table.Tr>
          {titles.map((title) => (
            <Table.Th key={title}>{word(title)}</Table.Th>
          ))}
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {partRows(parts).map((part) => (
          <Table.Tr key={part.key}>
            <Table.Td>{said(PARTS, part.component)}</Table.Td>
            <Table.Td>{valueWord("domain", part.domain)}</Table.Td>
            <Table.Td>{part.rf ?? "–"}</Table.Td>
            <Table.Td>{part.tolerates}</Table.Td>
            <Table.Td>
              <State state={part.state}>{said(VERDICTS, part.state)}</State>
              {part.reason && <Text size="xs">{part.reason}</Text>}
            </Table.Td>
            <Table.Td>{part.remedy ? <Text size="xs">{part.remedy}</Text> : "–"}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

/** Volumes in quarantine; nothing where there is none. */
export function Quarantined() {
  const language = useLanguage();
  const volumes = quarantined(useVolumes().data ?? []);
  if (volumes.length === 0) {
    return null;
  }
  return (
    <Panel title={word("quarantined")}>
      <Stack gap="xs">
        {volumes.slice(0, QUARANTINED_MAX).map((volume) => (
          <Group key={volume.id} gap="xs">
            <State state="quarantine" of="state" />
            <Link to="/volumes/$name" params={{ name: volume.name }} style={{ fontSize: 14 }}>
              {volume.name}
            </Link>
            <Text size="xs" c="dimmed">
              {quarantineOf(volume, language).map(([, until]) => until)}
            </Text>
          </Group>
        ))}
        {volumes.length > QUARANTINED_MAX && <Text size="sm">{`… ${volumes.length}`}</Text>}
        <Text size="xs" c="dimmed">
          {word("quarantinedHint")}
        </Text>
      </Stack>
    </Panel>
  );
}

/** What happened last. */
export function RecentEvents() {
  const language = useLanguage();
  const query = useEvents(EVENTS_MAX);
  return (
    <Panel
      title={word("eventsRecent")}
      action={
        <Link to="/events" style={{ fontSize: 14 }}>
          {word("eventsMore")}
        </Link>
      }
    >
      <Loaded query={query}>
        {({ events }) =>
          events.length === 0 ? (
            <Text size="sm">{word("eventsNone")}</Text>
          ) : (
            <Table aria-label={word("eventsRecent")}>
              <Table.Thead>
                <Table.Tr>
                  {(["when", "severity", "message"] as Word[]).map((title) => (
                    <Table.Th key={title}>{word(title)}</Table.Th>
                  ))}
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {newest(events, EVENTS_MAX).map((one) => (
                  <Table.Tr key={one.id}>
                    <Table.Td style={{ whiteSpace: "nowrap" }}>{time(one.at_ms, language)}</Table.Td>
                    <Table.Td>
                      <State state={one.severity} of="severity" />
                    </Table.Td>
                    <Table.Td style={{ overflowWrap: "anywhere" }}>{one.message}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )
        }
      </Loaded>
    </Panel>
  );
}
