// What happened in the cluster, newest first.

import { Select, Text } from "@mantine/core";
import { useMemo, useState } from "react";
import { time } from "../format";
import { useLanguage, valueWord, word } from "../i18n";
import { Cut, Loaded, Page, State } from "../parts";
import { EVENTS_SHOWN_MAX, useEvents } from "../queries";
import { type Column, DataTable } from "../table";
import type { ClusterEvent } from "../types";

const SEVERITIES = ["critical", "warning", "info"];

function columns(language: string): Column<ClusterEvent>[] {
  return [
    {
      id: "at",
      title: word("when"),
      value: (one) => one.at_ms,
      show: (one) => time(one.at_ms, language),
      width: "minmax(170px, 1fr)",
    },
    {
      id: "severity",
      title: word("severity"),
      value: (one) => valueWord("severity", one.severity),
      show: (one) => <State state={one.severity} of="severity" />,
      width: "minmax(110px, 0.6fr)",
    },
    { id: "entity", title: word("about"), value: (one) => one.entity, width: "minmax(140px, 1fr)" },
    {
      id: "message",
      title: word("message"),
      value: (one) => one.message,
      show: (one) => <span title={one.message}>{one.message}</span>,
      width: "minmax(320px, 3fr)",
    },
    {
      id: "remedy",
      title: word("remedy"),
      value: (one) => one.remedy,
      show: (one) => (one.remedy ? <span title={one.remedy}>{one.remedy}</span> : "–"),
      width: "minmax(200px, 2fr)",
    },
    {
      id: "count",
      title: word("times"),
      value: (one) => one.count,
      right: true,
      width: "minmax(70px, 0.4fr)",
    },
    { id: "node", title: word("seenBy"), value: (one) => one.node },
    {
      id: "kind",
      title: word("kind"),
      value: (one) => valueWord("event", one.kind),
      width: "minmax(130px, 1fr)",
    },
  ];
}

export function EventsPage() {
  const language = useLanguage();
  const query = useEvents();
  const [severity, setSeverity] = useState<string | null>(null);
  const shown = useMemo(() => columns(language), [language]);
  return (
    <Page title="events">
      <Loaded query={query}>
        {({ events }) =>
          events.length === 0 ? (
            <Text>{word("eventsNone")}</Text>
          ) : (
            <>
              <DataTable
                label={word("events")}
                rows={severity ? events.filter((one) => one.severity === severity) : events}
                columns={shown}
                id={(one) => String(one.id)}
                order={{ column: "at", down: true }}
                extra={
                  <Select
                    aria-label={word("severity")}
                    placeholder={word("everySeverity")}
                    size="xs"
                    clearable
                    data={SEVERITIES.map((value) => ({ value, label: valueWord("severity", value) }))}
                    value={severity}
                    onChange={setSeverity}
                  />
                }
              />
              <Cut shown={events.length} limit={EVENTS_SHOWN_MAX} />
            </>
          )
        }
      </Loaded>
    </Page>
  );
}
