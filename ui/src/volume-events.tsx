// What happened to a volume lately, on its page.

import { Table } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { time } from "./format";
import { useLanguage, word } from "./i18n";
import { Panel, State } from "./parts";
import { useEvents } from "./queries";
import type { Volume } from "./types";
import { recentEvents } from "./volume-facts";

/** Nothing when there are none. */
export function EventsOfVolume({ volume }: { volume: Volume }) {
  const language = useLanguage();
  const events = recentEvents(useEvents().data?.events ?? [], volume);
  if (events.length === 0) {
    return null;
  }
  return (
    <Panel title={word("eventsRecent")} action={<Link to="/events">{word("eventsMore")}</Link>}>
      <Table aria-label={word("eventsRecent")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{word("when")}</Table.Th>
            <Table.Th>{word("severity")}</Table.Th>
            <Table.Th>{word("message")}</Table.Th>
            <Table.Th>{word("remedy")}</Table.Th>
            <Table.Th>{word("times")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {events.map((one) => (
            <Table.Tr key={one.id}>
              <Table.Td>{time(one.at_ms, language)}</Table.Td>
              <Table.Td>
                <State state={one.severity} of="severity" />
              </Table.Td>
              <Table.Td>{one.message}</Table.Td>
              <Table.Td>{one.remedy ?? "–"}</Table.Td>
              <Table.Td>{one.count}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Panel>
  );
}
