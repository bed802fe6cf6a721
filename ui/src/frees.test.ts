import { afterEach, beforeAll, expect, test, vi } from "vitest";
import { call, onTopOf } from "./api";
import { time } from "./format";
import { FREES_MAX, freesOfSnapshots, freesOfVolumes, sumOfFrees } from "./frees";
import type { ClusterEvent, Usage } from "./types";
import {
  eventsInside,
  firstEnd,
  looksForEnd,
  quarantined,
  quarantineOf,
  recentEvents,
  stateOf,
} from "./volume-facts";

const usage = (frees: number): Usage => ({ mapped: 9, shared: 1, exclusive: 8, frees, age_seconds: 3 });
const asked = vi.fn<typeof fetch>();
beforeAll(() => {
  vi.stubGlobal("fetch", asked);
});
afterEach(() => {
  asked.mockReset();
});

/** Has the API answer by path; what is not in it is not found. */
function answer(values: Record<string, unknown>) {
  asked.mockImplementation(async (where) => {
    const value = values[String(where).replace("/api/v1", "")];
    return new Response(JSON.stringify(value ?? { kind: "not-found" }), { status: value ? 200 : 404 });
  });
}

test("what is freed is the sum of what is known, and the others are counted", () => {
  expect(sumOfFrees([])).toEqual({ bytes: 0, known: 0, unknown: 0 });
  expect(sumOfFrees([{ usage: usage(5) }, { usage: usage(0) }])).toEqual({ bytes: 5, known: 2, unknown: 0 });
  const some = [{ usage: usage(5) }, { usage: null }, {}, null, undefined];
  expect(sumOfFrees(some)).toEqual({ bytes: 5, known: 1, unknown: 4 });
});

test("a volume that cannot be read is not known", async () => {
  answer({ "/volumes/a": { usage: usage(7) }, "/volumes/b": { usage: null } });
  const found = await freesOfVolumes([{ name: "a" }, { name: "b" }, { name: "gone" }]);
  expect(found).toEqual({ bytes: 7, known: 1, unknown: 2 });
});

test("too many volumes are not asked for", async () => {
  const many = Array.from({ length: FREES_MAX + 1 }, (_, id) => ({ id, volume_id: id, name: `v${id}` }));
  expect(await freesOfVolumes(many)).toBeNull();
  expect(await freesOfSnapshots(many)).toBeNull();
  expect(asked).not.toHaveBeenCalled();
});

test("snapshots are looked for in the lists of their volumes, each read once", async () => {
  const list = [1, 2, 3].map((id) => ({ id, usage: usage(id) }));
  answer({ "/snapshots?volume=volume-4": list, "/snapshots?volume=volume-5": [{ id: 8 }] });
  const deleted = [
    { id: 1, volume_id: 4 },
    { id: 3, volume_id: 4 },
    { id: 8, volume_id: 5 },
  ];
  expect(await freesOfSnapshots(deleted)).toEqual({ bytes: 4, known: 2, unknown: 1 });
  expect(asked).toHaveBeenCalledTimes(2);
});

test("a change on top of a version says so, and one without says nothing", async () => {
  answer({ "/volumes/a": {} });
  await call("PATCH", "/volumes/a", {}, onTopOf(17));
  await call("PATCH", "/volumes/a", {}, onTopOf(undefined));
  const headers = asked.mock.calls.map(([, request]) => new Headers(request?.headers).get("if-match"));
  expect(headers).toEqual(['"17"', null]);
});

test("the ten newest events of a volume, and none of another that had its name", () => {
  const event = (id: number, at_ms: number, entity: string) => ({ id, at_ms, entity }) as ClusterEvent;
  const own = Array.from({ length: 12 }, (_, at) => event(at, 100 + at, "volume/db"));
  const others = [event(20, 99, "volume/db"), event(21, 300, "volume/db-2"), event(22, 300, "node/db")];
  const shown = recentEvents([...own, ...others], { name: "db", created_ms: 100 });
  expect(shown.map((one) => one.id)).toEqual([11, 10, 9, 8, 7, 6, 5, 4, 3, 2]);
});

test("the newest events of a container and of the volumes in it", () => {
  const event = (id: number, at_ms: number, entity: string) => ({ id, at_ms, entity }) as ClusterEvent;
  const events = [
    event(1, 50, "container/gold"),
    event(2, 150, "volume/db"),
    event(3, 90, "volume/db"),
    event(4, 200, "volume/web"),
    event(5, 300, "container/silver"),
    event(6, 160, "volume/log"),
  ];
  const volumes = [
    { name: "db", created_ms: 100 },
    { name: "log", created_ms: 0 },
  ];
  const shown = eventsInside(events, { name: "gold" }, volumes);
  expect(shown.map((one) => one.id)).toEqual([6, 2, 1]);
});

test("a volume in quarantine says until when, and others say nothing of it", () => {
  expect(quarantineOf({}, "en")).toEqual([]);
  expect(quarantineOf({ quarantine_until_ms: null }, "en")).toEqual([]);
  const until = 1_795_456_755_123;
  expect(quarantineOf({ quarantine_until_ms: until }, "en")).toEqual([
    ["Quarantine", `until ${time(until, "en")}`],
  ]);
});

test("a list tells which volumes are in quarantine, and is read again when the first of them is over", () => {
  const until = 1_795_456_755_123;
  const held = { state: "ready", quarantine_until_ms: until };
  const free = { state: "ready", quarantine_until_ms: null };
  const stopped = { state: "stopped", quarantine_until_ms: until + 5 };
  expect([held, free, stopped, { state: "ready" }].map(stateOf)).toEqual([
    "quarantine",
    "ready",
    "stopped",
    "ready",
  ]);
  expect(quarantined([free, held, stopped])).toEqual([held]);
  expect(firstEnd([free])).toBeNull();
  expect(firstEnd([stopped, free, held])).toBe(until);
  // Once by this clock, and once more where this clock is ahead of the cluster's.
  expect(looksForEnd(until, until - 30_000)).toEqual([31_000, 601_000]);
  expect(looksForEnd(until, until + 3_600_000)).toEqual([1000, 601_000]);
  expect(looksForEnd(until, until - 3_600_000)).toEqual([601_000]);
});
