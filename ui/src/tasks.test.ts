import { expect, test } from "vitest";
import { KINDS } from "./task-words";
import { cancellable, inTree, isAbout, isOfHardware, isOpen, left, progress, withParts } from "./tasks";
import type { Task } from "./types";
import { en, ja } from "./words";

const task = (id: number, more: Partial<Task> = {}): Task => ({
  id,
  kind: "node-drain",
  entity: "node/b",
  subject: "node/2",
  status: "running",
  done: 0,
  total: 0,
  unit: "parts",
  eta_ms: null,
  message: "",
  parent: null,
  queued_ms: 0,
  started_ms: null,
  updated_ms: 0,
  ended_ms: null,
  who: "",
  request: "",
  node: "a",
  cancellable: false,
  cancelled_by: null,
  ...more,
});

test("parts come behind their task, and those of one that is not there stand alone", () => {
  const all = [task(1), task(2, { parent: 1 }), task(3), task(4, { parent: 1 }), task(5, { parent: 99 })];
  expect(inTree(all).map((one) => one.id)).toEqual([5, 3, 1, 2, 4]);
});

test("progress is in the unit of the task, or not known", () => {
  expect(progress(task(1))).toBeNull();
  expect(progress(task(1, { done: 3, total: 12 }))).toEqual({ share: 25, text: "3 / 12" });
  const freed = task(1, { unit: "bytes", done: 1 << 20, total: 4 << 20 });
  expect(progress(freed)).toEqual({ share: 25, text: "1.00 MiB / 4.00 MiB" });
});

test("what has ended takes no longer", () => {
  const running = task(1, { updated_ms: 1000, eta_ms: 61_000 });
  expect(left(running)).toBe("60 s");
  expect(left({ ...running, status: "succeeded" })).toBeNull();
  expect(left({ ...running, eta_ms: null })).toBeNull();
  expect(isOpen(running) && !isOpen({ ...running, status: "failed" })).toBe(true);
});

test("a task is about a thing by its id", () => {
  expect(isAbout(task(1), new Set(["node/2", "store/4"]))).toBe(true);
  expect(isAbout(task(1), new Set(["node/b"]))).toBe(false);
});

test("a drain is of the hardware, and a deletion and a scrub are not", () => {
  expect(isOfHardware(task(1))).toBe(true);
  expect(isOfHardware(task(1, { kind: "balance", subject: "cluster/0" }))).toBe(true);
  expect(isOfHardware(task(1, { kind: "volume-delete" }))).toBe(false);
  expect(isOfHardware(task(1, { kind: "scrub", subject: "store/1" }))).toBe(false);
});

test("only what goes on, can be stopped and is not being stopped is cancelled", () => {
  const all = [
    task(1, { cancellable: true }),
    task(2),
    task(3, { cancellable: true, cancelled_by: "user admin" }),
    task(4, { cancellable: true, status: "succeeded" }),
  ];
  expect(cancellable(all).map((one) => one.id)).toEqual([1]);
});

test("every kind of task has a name in both languages", () => {
  for (const name of Object.values(KINDS)) {
    expect(en[name]).not.toBe("");
    expect(ja[name]).not.toBe("");
  }
  for (const kind of ["volume-resize", "volume-drain", "group-snapshot-delete", "store-scrub", "upgrade"]) {
    expect(KINDS[kind]).toBeDefined();
  }
});

test("a task alone has its parts beside it, and theirs", () => {
  const all = [task(1), task(2, { parent: 1 }), task(3, { parent: 2 }), task(4), task(5, { parent: 5 })];
  const ids = (id: number) => withParts(all, id).map((one) => one.id);
  expect(ids(1)).toEqual([1, 2, 3]);
  expect(ids(3)).toEqual([3]);
  // A task that is its own parent is a mistake of somebody's, and no reason to hang.
  expect([ids(5), ids(9)]).toEqual([[5], []]);
});
