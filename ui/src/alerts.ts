// What the pages make of alerts, without drawing it.

import type { Alert, AlertCounts } from "./types";

const RANK: Record<string, number> = { critical: 0, warning: 1, info: 2 };

/** The most severe first, then the newest. */
export function bySeverity(alerts: Alert[]): Alert[] {
  const rank = (alert: Alert) => RANK[alert.severity] ?? 3;
  return alerts.toSorted((one, other) => rank(one) - rank(other) || other.id - one.id);
}

/** Severities of which some are open, the most severe first. */
export function counted(open: AlertCounts): [keyof AlertCounts, number][] {
  const all: [keyof AlertCounts, number][] = [
    ["critical", open.critical],
    ["warning", open.warning],
    ["info", open.info],
  ];
  return all.filter(([, count]) => count > 0);
}

/** What the home page shows: what a person should know of and nobody has acknowledged, then what somebody has. */
export function urgent(alerts: Alert[], most: number): Alert[] {
  const matter = bySeverity(alerts).filter((alert) => alert.severity !== "info" && alert.resolved === null);
  const seen = (alert: Alert) => (alert.acknowledged ? 1 : 0);
  return matter.toSorted((one, other) => seen(one) - seen(other)).slice(0, most);
}

/** Those of the chosen ones that can be acknowledged, and those that can be resolved by hand. */
export function possible(chosen: Alert[]): { acknowledge: Alert[]; resolve: Alert[] } {
  const open = chosen.filter((alert) => alert.resolved === null);
  return {
    acknowledge: open.filter((alert) => alert.acknowledged === null),
    resolve: open.filter((alert) => alert.by_hand),
  };
}
