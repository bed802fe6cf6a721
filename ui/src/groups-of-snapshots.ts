// Group snapshots: what the snapshots in them show of them, and what is deleted as a whole.

import type { GroupSnapshot, Snapshot } from "./types";

/** The state of one: it is there for clones and restores when all members are. */
export function stateOfGroup({ ready }: Pick<GroupSnapshot, "ready">): "ready" | "incomplete" {
  return ready ? "ready" : "incomplete";
}

/** A member as people write it. */
export function memberName(one: Pick<Snapshot, "name" | "volume" | "volume_id">): string {
  return `${one.volume ?? `volume-${one.volume_id}`}@${one.name}`;
}

/** Names by id. */
export function namesOfGroups(groups: GroupSnapshot[] | undefined): Map<string, string> {
  return new Map(groups?.map((one) => [one.id, one.name]));
}

/** Those groups whose members are all among the snapshots, and the snapshots that are in none of them. */
export function wholeGroups<One extends Pick<Snapshot, "id" | "group">>(
  snapshots: One[],
  groups: GroupSnapshot[],
): { whole: GroupSnapshot[]; single: One[] } {
  const chosen = new Set(snapshots.map((one) => one.id));
  const isWhole = (group: GroupSnapshot) =>
    group.snapshots.length > 0 && group.snapshots.every((one) => chosen.has(one.id));
  const whole = groups.filter(isWhole);
  const inside = new Set(whole.map((group) => group.id));
  return { whole, single: snapshots.filter((one) => one.group === null || !inside.has(one.group)) };
}
