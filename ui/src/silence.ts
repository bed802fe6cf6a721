// When to look whether somebody who reports has fallen silent.

import type { Kubernetes } from "./types";

/** A reporter is heard every half minute; the cluster calls it silent after three (`SILENT_MS` of the API). */
export const SILENT_MS = 3 * 60_000;
/** So much later it is sure to be seen. */
const BEYOND_MS = 1000;

/** The last report of the one that is heard of least; nothing: of none, or all are silent already. */
export function oldestReport(clusters: Kubernetes[]): number | null {
  const times = clusters.flatMap((one) => (one.reported_ms != null && !one.silent ? [one.reported_ms] : []));
  return times.length === 0 ? null : Math.min(...times);
}

/**
 * In how many milliseconds to look, each once. By the browser's clock when the silence begins to count; where that clock is ahead
 * of the cluster's, that is too early, and what is long enough by any clock is looked at as well.
 */
export function looksForSilence(reportedMs: number, nowMs: number): number[] {
  const latest = SILENT_MS + BEYOND_MS;
  const first = Math.min(latest, Math.max(BEYOND_MS, reportedMs + latest - nowMs));
  return first < latest ? [first, latest] : [latest];
}
