import { expect, test } from "vitest";
import { FOUND_MAX, find, type Known } from "./search-entries";
import type { Disk, Snapshot, Task, Volume } from "./types";

const NOTHING: Known = {
  volumes: [],
  snapshots: [],
  containers: [],
  nodes: [],
  disks: [],
  clusters: [],
  claims: [],
  tasks: [],
  alerts: [],
};

const volume = (id: number, name: string) => ({ id, name, labels: {} }) as Volume;

test("everything that is called so is found, by kind, and nothing for an empty text", () => {
  const known: Known = {
    ...NOTHING,
    volumes: [volume(1, "web-data"), volume(2, "db")],
    snapshots: [
      { id: 1, name: "before", volume: "web-data", volume_id: 1 } as Snapshot,
      { id: 2, name: "web-last", volume: null, volume_id: 7 } as Snapshot,
    ],
    disks: [{ node: "node-1", path: "/dev/sdb", model: "SSD", serial: "WEB7", store: 3 } as Disk],
    tasks: [{ id: 5, kind: "volume-resize", entity: "volume/web-data" } as Task],
  };
  const found = find(" Web", known);
  expect(found.map(({ group, items }) => [group, items.map((item) => item.label)])).toEqual([
    ["volumes", ["web-data"]],
    ["snapshots", ["web-data@before", "volume-7@web-last"]],
    ["disks", ["node-1:/dev/sdb (SSD WEB7)"]],
    ["tasks", ["task 5: volume-resize volume/web-data"]],
  ]);
  const snapshots = found.find(({ group }) => group === "snapshots")?.items ?? [];
  expect(snapshots.map((item) => item.target)).toEqual([
    { to: "volume", name: "web-data" },
    { to: "snapshots" },
  ]);
  expect(find("  ", known)).toEqual([]);
  expect(find("nowhere", known)).toEqual([]);
});

test("of one kind no more are shown than one looks through", () => {
  const volumes = Array.from({ length: 50 }, (_, at) => volume(at, `v-${at}`));
  expect(find("v-", { ...NOTHING, volumes })[0]?.items.length).toBe(FOUND_MAX);
});
