import { expect, test } from "vitest";
import { FOUND_MAX, find, type Known } from "./search-entries";
import type {
  Alert,
  AlertTarget,
  Disk,
  GroupSnapshot,
  Kubernetes,
  Node,
  Snapshot,
  Store,
  Task,
  Token,
  User,
  Volume,
} from "./types";

const NOTHING: Known = {
  volumes: [],
  snapshots: [],
  groups: [],
  containers: [],
  nodes: [],
  stores: [],
  disks: [],
  clusters: [],
  claims: [],
  tasks: [],
  alerts: [],
  targets: [],
  users: [],
  tokens: [],
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
    { to: "snapshots", filter: "web-last" },
  ]);
  expect(find("  ", known)).toEqual([]);
  expect(find("nowhere", known)).toEqual([]);
});

test("of one kind no more are shown than one looks through", () => {
  const volumes = Array.from({ length: 50 }, (_, at) => volume(at, `v-${at}`));
  expect(find("v-", { ...NOTHING, volumes })[0]?.items.length).toBe(FOUND_MAX);
});

test("a store is found on the page of its node, a user among the users", () => {
  const known: Known = {
    ...NOTHING,
    nodes: [{ id: 2, name: "node-b" } as Node],
    stores: [{ id: 11, node: 2 } as Store, { id: 12, node: 9 } as Store],
    users: [{ name: "store-keeper" } as User],
  };
  const found = find("store-", known).map(({ items }) => items.map(({ label, target }) => [label, target]));
  expect(found).toEqual([
    [
      ["store-11", { to: "node", name: "node-b" }],
      ["store-12", { to: "hardware" }],
    ],
    [["store-keeper", { to: "user", name: "store-keeper" }]],
  ]);
});

test("what has no page of its own is found in its list, and there alone", () => {
  const known: Known = {
    ...NOTHING,
    groups: [{ id: "4", name: "night-1" } as GroupSnapshot],
    clusters: [{ name: "prod", classes: [{ name: "night-fast" }] } as Kubernetes],
    tasks: [{ id: 5, kind: "snapshot-delete", entity: "volume/night" } as Task],
    alerts: [{ id: 6, entity: "store/1", cause: "it is full every night" } as Alert],
    targets: [{ name: "night-shift" } as AlertTarget],
    tokens: [{ name: "nightly" } as Token],
  };
  const found = find("night", known);
  expect(found.map(({ group, items }) => [group, items.map((item) => item.target)])).toEqual([
    ["groupSnapshots", [{ to: "groups", filter: "night-1" }]],
    ["storageClasses", [{ to: "class", name: "night-fast", cluster: "prod" }]],
    ["tasks", [{ to: "task", id: 5 }]],
    ["alerts", [{ to: "alert", id: 6 }]],
    ["targets", [{ to: "target", name: "night-shift" }]],
    ["tokens", [{ to: "token", name: "nightly" }]],
  ]);
});
