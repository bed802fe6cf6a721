// What deletions free, as far as the cluster has counted it.

import { get, path } from "./api";
import type { Snapshot, Usage, Volume } from "./types";

/** Requests that a dialog makes to find out. */
export const FREES_MAX = 20;

export interface Frees {
  /** Bytes of those that are known, each for itself: what several have in common is in none of them. */
  bytes: number;
  known: number;
  unknown: number;
}

type Counted = { usage?: Usage | null } | null | undefined;

/** Of things of which some were not counted yet, or could not be read. */
export function sumOfFrees(all: Counted[]): Frees {
  const known = all.flatMap((one) => (one?.usage ? [one.usage.frees] : []));
  return {
    bytes: known.reduce((sum, frees) => sum + frees, 0),
    known: known.length,
    unknown: all.length - known.length,
  };
}

/** What could be read; nothing in the place of what could not. */
async function read<T>(places: string[]): Promise<(T | null)[]> {
  const all = await Promise.allSettled(places.map((where) => get<T>(where)));
  return all.map((one) => (one.status === "fulfilled" ? one.value : null));
}

/** Nothing: they are too many to be asked for. */
export async function freesOfVolumes(volumes: { name: string }[]): Promise<Frees | null> {
  if (volumes.length > FREES_MAX) {
    return null;
  }
  return sumOfFrees(await read<Volume>(volumes.map((volume) => `/volumes${path(volume.name)}`)));
}

/** They are counted in the list of one volume's snapshots. Nothing: those volumes are too many. */
export async function freesOfSnapshots(
  snapshots: { id: number; volume_id: number }[],
): Promise<Frees | null> {
  const volumes = [...new Set(snapshots.map((one) => one.volume_id))];
  if (volumes.length > FREES_MAX) {
    return null;
  }
  const lists = await read<Snapshot[]>(volumes.map((id) => `/snapshots?volume=volume-${id}`));
  const found = new Map(lists.flatMap((list) => list ?? []).map((one) => [one.id, one]));
  return sumOfFrees(snapshots.map((one) => found.get(one.id)));
}
