import { describe, expect, test } from "vitest";
import { isDue, newest, summary, times, valuesOf } from "./series";
import type { Metrics } from "./types";

const answer: Metrics = {
  entity: "cluster",
  from_ms: 60_000,
  to_ms: 180_000,
  step: 60,
  through_ms: 170_000,
  series: [{ metric: "iops", unit: "per-second", values: [4, null] }],
  silent: [],
};

describe("figures over time", () => {
  test("steps have times, and metrics that are not there have no values", () => {
    expect(times(answer)).toEqual([60, 120]);
    expect(valuesOf(answer, "iops")).toEqual([4, null]);
    expect(valuesOf(answer, "cpu_percent")).toEqual([null, null]);
  });

  test("a line is told in words", () => {
    const format = (value: number) => value.toFixed(0);
    expect(newest([1, 2, null])).toBe(2);
    expect(newest([null])).toBeNull();
    expect(summary({ label: "Read", values: [2, 4, null] }, format, "nothing")).toBe("Read 4, ∅ 3, max 4");
    expect(summary({ label: "Read", values: [null] }, format, "nothing")).toBe("Read nothing");
  });

  test("an answer is asked for again when another of its steps is over", () => {
    expect(isDue(15, 0, 15_000)).toBe(true);
    expect(isDue(240, 0, 60_000)).toBe(false);
    expect(isDue(240, 0, 236_000)).toBe(true);
    expect(isDue(undefined, 0, 1)).toBe(true);
  });
});
