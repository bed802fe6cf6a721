import { expect, test } from "vitest";
import { looksForSilence, oldestReport, SILENT_MS } from "./silence";
import type { Kubernetes } from "./types";

const cluster = (reported_ms: number | null, silent = false) => ({ reported_ms, silent }) as Kubernetes;

test("the one that is heard of least falls silent first; those that are silent are waited for no more", () => {
  expect(oldestReport([cluster(500), cluster(300), cluster(100, true), cluster(null)])).toBe(300);
  expect(oldestReport([cluster(100, true), cluster(null)])).toBeNull();
  expect(oldestReport([])).toBeNull();
});

test("it is looked at once when the silence counts, and once more for clocks that differ", () => {
  const latest = SILENT_MS + 1000;
  expect(looksForSilence(1_000_000, 1_000_000)).toEqual([latest]);
  expect(looksForSilence(1_000_000, 1_020_000)).toEqual([latest - 20_000, latest]);
  // The browser's clock is far ahead, or behind.
  expect(looksForSilence(1_000_000, 9_000_000)).toEqual([1000, latest]);
  expect(looksForSilence(1_000_000, 1)).toEqual([latest]);
});
