// What the page of a volume picks from what is known of the cluster.

import type { ClusterEvent, Volume } from "./types";

const EVENTS_SHOWN_MAX = 10;

/** The newest about a volume first. Those from before its creation are of another one that had its name. */
export function recentEvents(events: ClusterEvent[], volume: Pick<Volume, "name" | "created_ms">) {
  const own = (one: ClusterEvent) => one.entity === `volume/${volume.name}` && one.at_ms >= volume.created_ms;
  return events
    .filter(own)
    .toSorted((one, other) => other.at_ms - one.at_ms || other.id - one.id)
    .slice(0, EVENTS_SHOWN_MAX);
}
