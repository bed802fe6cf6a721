// What came from what: a volume, its snapshots, and the volumes that start from those.

import type { Snapshot, Volume } from "./types";

export interface Branch {
  id: number;
  /** Nothing: the volume is gone, and only its snapshots are left. */
  volume: Volume | null;
  snapshots: { snapshot: Snapshot; clones: Branch[] }[];
  /** Volumes whose snapshot is gone. */
  clones: Branch[];
}

/** The tree that a volume is in, from the oldest volume on that something is left of. */
export function lineage(volumes: Volume[], snapshots: Snapshot[], id: number): Branch {
  const byId = new Map(volumes.map((volume) => [volume.id, volume]));
  const known = new Set([...byId.keys(), ...snapshots.map((snapshot) => snapshot.volume_id)]);
  let root = id;
  // Every step goes to an older volume: ids only grow.
  for (;;) {
    const from = byId.get(root)?.origin?.volume_id;
    if (from === undefined || from >= root || !known.has(from)) {
      break;
    }
    root = from;
  }
  return branch(byId, volumes, snapshots, root);
}

function branch(byId: Map<number, Volume>, volumes: Volume[], snapshots: Snapshot[], id: number): Branch {
  const children = volumes.filter((one) => one.origin?.volume_id === id && one.id > id);
  const own = snapshots
    .filter((one) => one.volume_id === id)
    .toSorted((one, other) => one.created_ms - other.created_ms || one.id - other.id);
  const ids = new Set(own.map((one) => one.id));
  const draw = (one: Volume) => branch(byId, volumes, snapshots, one.id);
  return {
    id,
    volume: byId.get(id) ?? null,
    snapshots: own.map((snapshot) => ({
      snapshot,
      clones: children.filter((one) => one.origin?.snapshot_id === snapshot.id).map(draw),
    })),
    clones: children.filter((one) => !ids.has(one.origin?.snapshot_id ?? 0)).map(draw),
  };
}
