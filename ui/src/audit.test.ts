import { expect, test } from "vitest";
import { changeText, differences, valueText } from "./audit";
import type { AuditEntry } from "./types";

const entry = (before: AuditEntry["before"], after: AuditEntry["after"]) =>
  ({ id: 1, before, after }) as AuditEntry;
const told = (before: AuditEntry["before"], after: AuditEntry["after"]) =>
  differences(entry(before, after)).map(({ field, fate }) => [field, fate]);

test("a change says what it made other first, then what it asked for and what it left", () => {
  const before = { size: 4096, description: "old", draining: false, iops_limit: null };
  const after = { name: "db", size: 8192, draining: false };
  expect(told(before, after)).toEqual([
    ["size", "changed"],
    ["name", "added"],
    ["draining", "same"],
    ["description", "kept"],
  ]);
  expect(changeText(entry(before, after), "en")).toBe("size: 4.00 KiB (4096) → 8.00 KiB (8192); name: db");
});

test("a creation has no before, and a deletion may have no after", () => {
  expect(told(undefined, { name: "db" })).toEqual([["name", "added"]]);
  expect(told({ role: "admin" }, undefined)).toEqual([["role", "removed"]]);
  expect(changeText(entry({ role: "admin" }, null), "en")).toBe("role: admin → –");
  expect(told(undefined, undefined)).toEqual([]);
  expect(changeText(entry(undefined, undefined), "en")).toBe("");
});

test("fields within fields are compared one by one, and null takes one away", () => {
  const before = { labels: { app: "shop", tier: "1" }, quota: null };
  const after = { labels: { app: null, tier: "1", new: "x" }, quota: null };
  expect(told(before, after)).toEqual([
    ["labels.new", "added"],
    ["labels.app", "removed"],
    ["labels.tier", "same"],
    ["quota", "same"],
  ]);
});

test("lists are compared as a whole", () => {
  expect(told({ containers: ["a", "b"] }, { containers: ["a", "b"] })).toEqual([["containers", "same"]]);
  expect(told({ containers: ["a"] }, { containers: ["b"] })).toEqual([["containers", "changed"]]);
});

test("values are for people, and never look the same when they differ", () => {
  expect(valueText("size", 2 ** 30, "en")).toBe("1.00 GiB (1073741824)");
  expect(valueText("size", 2 ** 30 + 4096, "en")).toBe("1.00 GiB (1073745920)");
  expect(valueText("iops_limit", 500, "en")).toBe("500");
  expect(valueText("maintenance_until_ms", 0, "en")).toBe("0");
  expect(valueText("maintenance_until_ms", 1_700_000_000_000, "en")).toContain("2023");
  expect(valueText("draining", false, "en")).toBe("false");
  expect(valueText("description", "", "en")).toBe('""');
  expect(valueText("quota", null, "en")).toBe("–");
  expect(valueText("volumes", ["a", "b"], "en")).toBe("a, b");
  expect(valueText("deep", [{ a: 1 }], "en")).toBe('[{"a":1}]');
});
