import { expect, test } from "vitest";
import { lineage } from "./lineage";
import type { Snapshot, Volume } from "./types";

const volume = (id: number, from?: [number, number]): Volume =>
  ({ id, name: `v${id}`, origin: from ? { volume_id: from[0], snapshot_id: from[1] } : null }) as Volume;
const snapshot = (id: number, of: number): Snapshot => ({ id, volume_id: of, created_ms: id }) as Snapshot;

test("a tree begins with the oldest volume and clones hang below their snapshots", () => {
  const volumes = [volume(1), volume(5, [1, 2]), volume(6, [5, 9]), volume(7)];
  const snapshots = [snapshot(3, 1), snapshot(2, 1), snapshot(9, 5)];
  for (const id of [1, 5, 6]) {
    const root = lineage(volumes, snapshots, id);
    expect(root.volume?.name).toBe("v1");
    expect(root.snapshots.map((one) => one.snapshot.id)).toEqual([2, 3]);
    const clone = root.snapshots[0]?.clones[0];
    expect(clone?.volume?.name).toBe("v5");
    expect(clone?.snapshots[0]?.clones[0]?.volume?.name).toBe("v6");
  }
  expect(lineage(volumes, snapshots, 7).snapshots).toEqual([]);
});

test("what is gone is left out, and what came from it stays", () => {
  const root = lineage([volume(5, [1, 2])], [snapshot(4, 1)], 5);
  expect(root.volume).toBeNull();
  expect(root.clones[0]?.volume?.name).toBe("v5");
  expect(lineage([volume(5, [1, 2])], [], 5).volume?.name).toBe("v5");
});
