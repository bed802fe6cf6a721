// What the pages of a volume and of a container pick from what is known of the cluster.

import { time } from "./format";
import { word } from "./i18n";
import type { ClusterEvent, Container, Volume } from "./types";

const EVENTS_SHOWN_MAX = 10;

type Created = Pick<Volume, "name" | "created_ms">;

function newest(events: ClusterEvent[], own: (one: ClusterEvent) => boolean): ClusterEvent[] {
  return events
    .filter(own)
    .toSorted((one, other) => other.at_ms - one.at_ms || other.id - one.id)
    .slice(0, EVENTS_SHOWN_MAX);
}

/** The newest about a volume first. Those from before its creation are of another one that had its name. */
export function recentEvents(events: ClusterEvent[], volume: Created): ClusterEvent[] {
  return newest(events, (one) => one.entity === `volume/${volume.name}` && one.at_ms >= volume.created_ms);
}

/** The same about a container and the volumes that are in it. */
export function eventsInside(
  events: ClusterEvent[],
  container: Pick<Container, "name">,
  volumes: Created[],
): ClusterEvent[] {
  const since = new Map(volumes.map((one) => [`volume/${one.name}`, one.created_ms]));
  return newest(events, (one) => {
    const created = one.entity === `container/${container.name}` ? 0 : since.get(one.entity);
    return created !== undefined && one.at_ms >= created;
  });
}

/** The word for its state: one in quarantine is ready, and nobody can use it. */
export function stateOf({
  state,
  quarantine_until_ms: until,
}: Pick<Volume, "state" | "quarantine_until_ms">) {
  return state === "ready" && until ? "quarantine" : state;
}

/** Those in quarantine, by name, as they came. */
export function quarantined<One extends Pick<Volume, "state" | "quarantine_until_ms">>(
  volumes: One[],
): One[] {
  return volumes.filter((volume) => stateOf(volume) === "quarantine");
}

/** The end of the first quarantine of some volumes; nothing: none is in one. */
export function firstEnd(volumes: Pick<Volume, "quarantine_until_ms">[]): number | null {
  const ends = volumes.flatMap(({ quarantine_until_ms: until }) => (until ? [until] : []));
  return ends.length === 0 ? null : Math.min(...ends);
}

/** The longest quarantine: `QUARANTINE_MS_MAX` of the node. */
const QUARANTINE_MS_MAX = 600_000;
/** So much later it is sure to be over. */
const BEYOND_MS = 1000;

/**
 * In how many milliseconds to look whether it is over, which is no change that anybody tells of; each once. By the browser's clock, and
 * where that is ahead of the cluster's, when it is over by any clock.
 */
export function looksForEnd(untilMs: number, nowMs: number): number[] {
  const latest = QUARANTINE_MS_MAX + BEYOND_MS;
  const first = Math.min(latest, Math.max(BEYOND_MS, untilMs + BEYOND_MS - nowMs));
  return first < latest ? [first, latest] : [latest];
}

/** Until when no node opens a volume, if it is in quarantine: a row of its facts. */
export function quarantineOf(
  { quarantine_until_ms: until }: Pick<Volume, "quarantine_until_ms">,
  language: string,
): [string, string][] {
  return until ? [[word("quarantine"), word("quarantineUntil", time(until, language))]] : [];
}
