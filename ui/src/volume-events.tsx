// What happened lately to a volume, or in a container, on its page.

import { Table } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { time } from "./format";
import { useLanguage, word } from "./i18n";
import { Panel, State } from "./parts";
import { useEvents } from "./queries";
import type { ClusterEvent, Container, Volume } from "./types";
import { eventsInside, recentEvents } from "./volume-facts";

export function EventsOfVolume({ volume }: { volume: Volume }) {
  return <Events events={recentEvents(useEvents().data?.events ?? [], volume)} />;
}

/** Of the container itself, and of the volumes that are in it. */
export function EventsOfContainer({ container, volumes }: { container: Container; volumes: Volume[] }) {
  return <Events events={eventsInside(useEvents().data?.events ?? [], container, volumes)} />;
}

/** Nothing when there are none. */
function Events({ events }: { events: ClusterEvent[] }) {
  const language = useLanguage();
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
