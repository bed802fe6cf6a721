import { beforeAll, expect, test, vi } from "vitest";
import type { Volume } from "./types";

beforeAll(() => {
  vi.stubGlobal("window", globalThis);
});

const { merge, plan } = await import("./live");

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
    "resiliency",
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
