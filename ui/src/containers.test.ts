import { expect, test } from "vitest";
import { containerRows, isWhole } from "./containers";
import type { Busiest, Container, Rates, SpaceReport, Volume } from "./types";

const container = (name: string, provisioned = 0, quota: number | null = null) =>
  ({ name, provisioned, quota }) as Container;
const volume = (container: string, mapped: number) => ({ container, mapped }) as Volume;
const busy = (container: string, iops: number) => ({
  id: iops,
  name: `v${iops}`,
  container,
  owner: 1,
  rates: { iops, bandwidth: iops * 4096 } as Rates,
});
const busiest = (volumes: Busiest["volumes"], silent: string[] = []): Busiest => ({
  at_ms: 1,
  nodes: [],
  volumes,
  silent,
});

test("a container has the sums of its volumes", () => {
  const space = {
    containers: [{ name: "a", mapped: 9, snapshots: 3, exclusive: 2, frees: 7 }],
    volumes: [],
    snapshots: [],
  } as unknown as SpaceReport;
  const [a, b] = containerRows([container("a", 50, 200), container("b", 10)], {
    volumes: [volume("a", 5), volume("a", 6)],
    space,
    busiest: busiest([busy("a", 20), busy("b", 2), busy("a", 1)]),
    busiestMax: 10,
  });
  expect(a).toMatchObject({ mapped: 11, inSnapshots: 3, frees: 7, quotaUsed: 25, iops: 21 });
  expect(a?.bandwidth).toBe(21 * 4096);
  // Its volumes were not counted yet, and it has no quota.
  expect(b).toMatchObject({ mapped: 0, inSnapshots: null, frees: null, quotaUsed: null, iops: 2 });
});

test("what is not known is not there", () => {
  const [row] = containerRows([container("a")], { busiestMax: 10 });
  expect(row).toMatchObject({ mapped: null, frees: null, iops: null, bandwidth: null });
  expect(row).toMatchObject({ latency: null, reduction: null });
});

test("a latency counts as often as it was measured", () => {
  const timed = (container: string, done: number, latency_us: number | null) => {
    const one = busy(container, done);
    return { ...one, rates: { ...one.rates, read_iops: done / 2, write_iops: done / 2, latency_us } };
  };
  const rows = containerRows([container("a"), container("b")], {
    busiest: busiest([timed("a", 30, 100), timed("a", 10, 500), timed("b", 4, null)]),
    busiestMax: 10,
  });
  expect(rows.map((row) => row.latency)).toEqual([200, null]);
});

test("a reduction is that of the volumes it has", () => {
  const usage = { mapped: 300, stored: 200 };
  const space = {
    containers: [],
    volumes: [{ container: "a", usage }],
    snapshots: [],
  } as unknown as SpaceReport;
  const reduction = (volumes: Volume[]) =>
    containerRows([container("a")], { volumes, space, busiestMax: 10 })[0]?.reduction;
  expect(reduction([volume("a", 300)])).toBe(150);
  expect(reduction([volume("a", 300), volume("a", 0)])).toBeNull();
});

test("rates are only told where every busy volume is known", () => {
  expect(isWhole(busiest([busy("a", 1)]), 10)).toBe(true);
  expect(isWhole(busiest([busy("a", 1)], ["node-3"]), 10)).toBe(false);
  expect(isWhole(busiest([busy("a", 2), busy("a", 1)]), 2)).toBe(false);
  // Those that are missing are idle.
  expect(isWhole(busiest([busy("a", 2), busy("a", 0)]), 2)).toBe(true);
  expect(isWhole({ ...busiest([]), at_ms: 0 }, 2)).toBe(false);
});
