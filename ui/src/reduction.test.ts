import { expect, test } from "vitest";
import { reductionOf, reductionsOfContainers, reductionsOfVolumes } from "./reduction";
import type { NamedUsage, SpaceReport, Usage } from "./types";

const one = (id: number, container: string, mapped: number, stored?: number): NamedUsage => ({
  id,
  name: `v-${id}`,
  volume_id: null,
  container,
  usage: { mapped, stored } as Usage,
});
const report = (volumes: NamedUsage[], snapshots: NamedUsage[] = []) =>
  ({ volumes, snapshots }) as SpaceReport;

test("what is not known has no reduction", () => {
  expect(reductionOf({ mapped: 300, stored: 200 })).toBe(150);
  for (const nothing of [{ mapped: 300 }, { mapped: 300, stored: null }, { mapped: 0, stored: 7 }]) {
    expect(reductionOf(nothing)).toBeNull();
  }
  const space = report([one(1, "a", 300, 200), one(2, "a", 300)]);
  expect([...reductionsOfVolumes(space)]).toEqual([[1, 150]]);
  expect(reductionsOfVolumes(undefined).size).toBe(0);
});

test("a container has one where that of all in it is known", () => {
  const count = new Map([
    ["all", 3],
    ["shared", 2],
    ["kept", 1],
    ["fresh", 2],
    ["empty", 1],
  ]);
  const space = report(
    [
      one(1, "all", 300, 100),
      one(2, "all", 100, 100),
      // It maps nothing: whatever it takes is known.
      one(3, "all", 0),
      one(4, "shared", 300, 100),
      one(5, "shared", 100),
      one(6, "kept", 300, 100),
      // The other one was not walked yet.
      one(7, "fresh", 300, 100),
      one(8, "empty", 0),
    ],
    [one(9, "kept", 50)],
  );
  expect([...reductionsOfContainers(space, count)]).toEqual([["all", 200]]);
});
