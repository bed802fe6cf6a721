import { expect, test } from "vitest";
import {
  diskName,
  disksByStore,
  fillOf,
  hardwareSearchOf,
  isExcused,
  linesOf,
  nodeRows,
  statesOf,
} from "./hardware";
import type { Busiest, Disk, Node, Store } from "./types";

const node = (id: number, rest: Partial<Node> = {}): Node =>
  ({ id, name: `node-${id}`, alive: true, draining: false, maintenance_until_ms: 0, ...rest }) as Node;

test("an address asks for a view that there is", () => {
  expect(hardwareSearchOf({ view: "disks", other: 1 })).toEqual({ view: "disks" });
  expect(hardwareSearchOf({ view: "nodes" })).toEqual({ view: "nodes" });
  expect(hardwareSearchOf({ view: "stores" })).toEqual({ view: "stores" });
  expect(hardwareSearchOf({ view: "placement" })).toEqual({ view: "placement" });
  expect(hardwareSearchOf({ view: "diagram" })).toEqual({});
  expect(hardwareSearchOf({ view: 7 })).toEqual({});
});

test("a node may be in several states", () => {
  expect(statesOf(node(1), 1000)).toEqual(["alive"]);
  const all = node(1, { alive: false, draining: true, maintenance_until_ms: 1001 });
  expect(statesOf(all, 1000)).toEqual(["away", "draining", "maintenance"]);
  expect(statesOf(all, 1001)).toEqual(["away", "draining"]);
});

test("a store is excused as a node is, and one that says nothing is not", () => {
  expect(isExcused({ maintenance_until_ms: 1001 }, 1000)).toBe(true);
  expect(isExcused({ maintenance_until_ms: 1000 }, 1000)).toBe(false);
  expect(isExcused({}, 0)).toBe(false);
});

test("the disks of a store stand together, in their order", () => {
  const disk = (store: number, path: string) => ({ store, path }) as Disk;
  const found = disksByStore([disk(1, "/dev/a"), disk(2, "/dev/b"), disk(1, "/dev/c")]);
  const paths = (store: number) => found.get(store)?.map((one) => one.path);
  expect([paths(1), paths(2), paths(3)]).toEqual([["/dev/a", "/dev/c"], ["/dev/b"], undefined]);
});

test("a row has what the stores and the figures of its node tell", () => {
  const stores = [
    { id: 1, node: 1, capacity: 100, used: 10, domains: ["rack-7", "zone-b"] },
    { id: 4, node: 1, capacity: 100, used: 20, domains: ["rack-7", "zone-b"] },
    { id: 2, node: 2, capacity: 50, used: 50 },
  ] as Store[];
  const busiest = { nodes: [{ id: 2, volumes: 3 }] } as Busiest;
  const [first, second] = nodeRows([node(1), node(2)], stores, busiest);
  expect(first).toMatchObject({ domains: ["zone-b", "rack-7"], stores: [1, 4], capacity: 200, used: 30 });
  expect(first?.volumes).toBeNull();
  expect(second).toMatchObject({ domains: [], stores: [2], volumes: 3 });
  expect(nodeRows([node(3)], stores, undefined)[0]).toMatchObject({ stores: [], capacity: 0, volumes: null });
});

test("what has no capacity has no fill", () => {
  expect(fillOf({ capacity: 300, used: 100 })).toBe(33.3);
  expect(fillOf({ capacity: 0, used: 0 })).toBeNull();
});

test("a disk is named by node and path, or by its store", () => {
  expect(diskName({ node: "node-1", path: "/dev/sda", store: 3 } as Disk)).toBe("node-1:/dev/sda");
  expect(diskName({ node: "node-1", path: "", store: 3 } as Disk)).toBe("store-3");
});

test("lines that say nothing are left out", () => {
  expect(linesOf(" /dev/sda \r\n\n/dev/disk/by-id/a b\n")).toEqual(["/dev/sda", "/dev/disk/by-id/a b"]);
  expect(linesOf(" \n")).toEqual([]);
});
