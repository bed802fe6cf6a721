// How far tasks are: in order, in words and in time.

import { bytes, percent, seconds } from "./format";
import type { Task } from "./types";

export const isOpen = (task: Task): boolean => task.status === "queued" || task.status === "running";

/** Whether it is about this: by name, or by id for things whose name was used before. */
export function isAbout(task: Task, subjects: ReadonlySet<string>): boolean {
  return subjects.has(task.subject);
}

/** Kinds of tasks that come from what is done with nodes and disks. */
const OF_HARDWARE = new Set([
  "node-drain",
  "store-drain",
  "store-remove",
  "disk-add",
  "disk-replace",
  "repair",
  "balance",
  "store-scrub",
  "upgrade",
]);

export const isOfHardware = (task: Task): boolean => OF_HARDWARE.has(task.kind);

/** Parts behind the task they are a part of, the newest tasks first. */
export function inTree(tasks: Task[]): Task[] {
  const known = new Set(tasks.map((task) => task.id));
  const isPart = (task: Task) => task.parent !== null && known.has(task.parent);
  const parts = tasks.filter(isPart).sort((one, other) => one.id - other.id);
  const whole = tasks.filter((task) => !isPart(task)).sort((one, other) => other.id - one.id);
  return whole.flatMap((task) => [task, ...parts.filter((part) => part.parent === task.id)]);
}

/** How much is done, in the unit of the task; nothing while it is not known of how much. */
export function progress(task: Task): { share: number; text: string } | null {
  if (task.total === 0) {
    return null;
  }
  const amount = (count: number) => (task.unit === "bytes" ? bytes(count) : String(count));
  return { share: percent(task.done, task.total), text: `${amount(task.done)} / ${amount(task.total)}` };
}

/** How long the rest takes, as of the last look; nothing while that cannot be told. */
export function left(task: Task): string | null {
  if (!isOpen(task) || task.eta_ms === null) {
    return null;
  }
  return seconds(Math.max(0, task.eta_ms - task.updated_ms) / 1000);
}

/** Those that somebody can still have stopped. */
export const cancellable = (tasks: Task[]): Task[] =>
  tasks.filter((task) => task.cancellable && task.cancelled_by === null && isOpen(task));

/** A task and what is a part of it, or of a part. */
export function withParts(tasks: Task[], id: number): Task[] {
  const parents = new Map(tasks.map((task) => [task.id, task.parent]));
  const isPart = (of: number | null | undefined, left = tasks.length): boolean =>
    of === id || (of != null && left > 0 && isPart(parents.get(of), left - 1));
  return tasks.filter((task) => isPart(task.id));
}
