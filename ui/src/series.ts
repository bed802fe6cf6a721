// Figures over time: what charts and their texts are made of.

import type { Metrics } from "./types";

export interface Named {
  label: string;
  values: (number | null)[];
}

/** The last value that is known; nothing when none is. */
export function newest(values: (number | null)[]): number | null {
  return values.findLast((value) => value !== null) ?? null;
}

/** Begins of the steps, in Unix seconds. */
export function times(answer: Metrics): number[] {
  const count = Math.round((answer.to_ms - answer.from_ms) / 1000 / answer.step);
  return Array.from({ length: count }, (_, at) => answer.from_ms / 1000 + at * answer.step);
}

/** The values of a metric; all unknown when the answer does not have it. */
export function valuesOf(answer: Metrics, metric: string): (number | null)[] {
  const found = answer.series.find((series) => series.metric === metric);
  return found?.values ?? times(answer).map(() => null);
}

/** A line in words: newest, mean and highest value. */
export function summary(line: Named, format: (value: number) => string, none: string): string {
  const known = line.values.filter((value) => value !== null);
  const last = newest(line.values);
  if (last === null) {
    return `${line.label} ${none}`;
  }
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const highest = known.reduce((most, value) => Math.max(most, value), 0);
  return `${line.label} ${format(last)}, ∅ ${format(mean)}, max ${format(highest)}`;
}

/** Whether an answer is old enough to be asked for again: when another of its steps is over. */
export function isDue(step: number | undefined, readAtMs: number, nowMs: number): boolean {
  // Steps are told a moment after they end, and read a moment after that.
  return nowMs - readAtMs >= (step ?? 0) * 1000 - 5000;
}
