import { beforeAll, expect, test, vi } from "vitest";
import type { Volume } from "./types";

beforeAll(() => {
  vi.stubGlobal("window", globalThis);
});

const { merge, oneByOne, plan } = await import("./live");

const volume = (id: number, name: string): Volume => ({ id, name }) as Volume;

test("the last word on a volume counts, and others are read again", () => {
  const changes = [
    { kind: "volume", id: 1, gone: false },
    { kind: "volume", id: 2, gone: false },
    { kind: "volume", id: 1, gone: true },
    { kind: "node", id: 3, gone: false },
    { kind: "alert", id: 4, gone: true },
    { kind: "unheard-of", id: 3, gone: false },
  ];
  const { stale, read, forget } = plan(changes);
  expect(read).toEqual([2]);
  expect(forget).toEqual([1]);
  expect(stale.sort()).toEqual([
    "alert-targets",
    "alerts",
    "cluster",
    "containers",
    "disks",
    "kubernetes",
    "resiliency",
    "settings",
    "space",
    "stores",
    "volume",
  ]);
});

test("many changed volumes are read as a list", () => {
  const changes = Array.from({ length: 100 }, (_, id) => ({ kind: "volume", id, gone: false }));
  const { stale, read } = plan(changes);
  expect(read).toEqual([]);
  expect(stale).toContain("volumes");
});

test("a list of volumes stays in order", () => {
  const list = [volume(1, "a"), volume(2, "c"), volume(3, "d")];
  const merged = merge(list, [volume(2, "z"), volume(4, "b")], [3]);
  expect(merged.map((one) => one.name)).toEqual(["a", "b", "z"]);
});

test("what was reported from Kubernetes is read again wherever it is shown", () => {
  const { stale, read } = plan([{ kind: "claims", id: 0, gone: false }]);
  expect(stale.sort()).toEqual(["claims", "claims-of-volume", "kubernetes"]);
  expect(read).toEqual([]);
  const heard = plan([{ kind: "kubernetes", id: 0, gone: false }]);
  expect(heard.stale).toEqual(["kubernetes"]);
});

test("disks are read again when a store, its node or its groups change, or its health does", () => {
  for (const kind of ["node", "store", "placement", "health"]) {
    expect(plan([{ kind, id: 1, gone: false }]).stale).toContain("disks");
  }
  expect(plan([{ kind: "volume", id: 1, gone: false }]).stale).not.toContain("disks");
  // A light that somebody switched changes nothing else.
  expect(plan([{ kind: "disk", id: 1, gone: false }]).stale).toEqual(["disks"]);
});

test("users, tokens and the audit log are read again when they change", () => {
  const stale = (kind: string) => plan([{ kind, id: 0, gone: false }]).stale;
  expect(stale("user")).toEqual(["users"]);
  expect(stale("session")).toEqual(["users", "sessions"]);
  expect(stale("token")).toEqual(["tokens"]);
  expect(stale("audit")).toEqual(["audit"]);
});

test("a rotation and group snapshots are read again when they go on, and not before", () => {
  const stale = (kind: string) => plan([{ kind, id: 0, gone: false }]).stale;
  expect(stale("authority")).toEqual(["authority"]);
  expect(stale("group-snapshot")).toEqual(["snapshots", "group-snapshots"]);
});

test("where the space goes is read again when something takes or gives back some, or was measured", () => {
  for (const kind of ["volume", "snapshot", "store", "metrics"]) {
    expect(plan([{ kind, id: 1, gone: false }]).stale).toContain("space");
  }
  expect(plan([{ kind: "event", id: 1, gone: false }]).stale).not.toContain("space");
});

test("a long list is read one at a time, and once more for all that came meanwhile", async () => {
  vi.useFakeTimers();
  let begun = 0;
  let end = () => {};
  const ask = oneByOne(() => {
    begun += 1;
    return new Promise<void>((done) => {
      end = done;
    });
  }, 1000);
  ask();
  expect(begun).toBe(1);
  ask();
  ask();
  await vi.advanceTimersByTimeAsync(5000);
  expect(begun).toBe(1);
  end();
  await vi.advanceTimersByTimeAsync(999);
  expect(begun).toBe(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(begun).toBe(2);
  end();
  await vi.advanceTimersByTimeAsync(500);
  ask();
  await vi.advanceTimersByTimeAsync(500);
  expect(begun).toBe(3);
  end();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(begun).toBe(3);
  ask();
  expect(begun).toBe(4);
  vi.useRealTimers();
});

test("a list that could not be read is read when it changes again", async () => {
  vi.useFakeTimers();
  let begun = 0;
  const ask = oneByOne(() => {
    begun += 1;
    return Promise.reject(new Error("no answer"));
  }, 10);
  ask();
  await vi.advanceTimersByTimeAsync(10);
  ask();
  expect(begun).toBe(2);
  vi.useRealTimers();
});
