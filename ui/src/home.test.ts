import { expect, test } from "vitest";
import { largestContainers, newest, partRows, reductions } from "./home";
import type { ClusterEvent, Part, SpaceReport } from "./types";

const report = (rest: Partial<SpaceReport>): SpaceReport =>
  ({
    walked: 2,
    mapped: 250,
    distinct: 200,
    stored: 100,
    sharing_hundredths: 125,
    compression_hundredths: 200,
    ...rest,
  }) as SpaceReport;

test("what is saved is told by kind and together", () => {
  expect(reductions(report({}))).toEqual([
    ["spaceSharing", "1.25 : 1"],
    ["spaceCompression", "2.00 : 1"],
    ["reductionBoth", "2.50 : 1"],
  ]);
});

test("nothing is told to be saved before data was walked", () => {
  for (const rest of [{ walked: 0 }, { distinct: 0 }, { stored: 0 }]) {
    expect(reductions(report(rest))).toEqual([]);
  }
});

test("containers that give nothing back are left out", () => {
  const containers = [
    { name: "a", frees: 1 },
    { name: "b", frees: 0 },
    { name: "c", frees: 3 },
    { name: "d", frees: 2 },
  ] as SpaceReport["containers"];
  expect(largestContainers(containers, 2).map((one) => one.name)).toEqual(["c", "d"]);
  expect(largestContainers(containers, 9).map((one) => one.name)).toEqual(["c", "d", "a"]);
});

test("the newest events come first", () => {
  const events = [{ id: 1 }, { id: 2 }, { id: 3 }] as ClusterEvent[];
  expect(newest(events, 2).map((one) => one.id)).toEqual([3, 2]);
});

test("parts that something is wrong with come first", () => {
  const part = (component: string, state: string, rest: Partial<Part> = {}): Part => ({
    component,
    state,
    domain: "node",
    tolerates: 1,
    ...rest,
  });
  const rows = partRows([
    part("data", "ok", { rf: 2 }),
    part("capacity", "degraded", { rf: 2, domain: "store" }),
    part("capacity", "unheard-of", { rf: 2 }),
    part("catalog", "critical", { domain: "member" }),
  ]);
  expect(rows.map((row) => row.key)).toEqual([
    "catalog--member",
    "capacity-2-store",
    "data-2-node",
    "capacity-2-node",
  ]);
});
