import { expect, test } from "vitest";
import { bySeverity, counted, possible, urgent } from "./alerts";
import type { Alert } from "./types";

const alert = (id: number, severity: string, more: Partial<Alert> = {}): Alert =>
  ({ id, severity, acknowledged: null, resolved: null, by_hand: false, ...more }) as Alert;
const mark = { by: "user a", at_ms: 1, note: null };

test("the most severe comes first, then the newest", () => {
  const all = [alert(1, "info"), alert(2, "critical"), alert(3, "warning"), alert(4, "critical")];
  expect(bySeverity(all).map((one) => one.id)).toEqual([4, 2, 3, 1]);
  expect(all[0]?.id).toBe(1);
});

test("only severities that are open are counted", () => {
  expect(counted({ critical: 0, warning: 2, info: 1 })).toEqual([
    ["warning", 2],
    ["info", 1],
  ]);
  expect(counted({ critical: 0, warning: 0, info: 0 })).toEqual([]);
});

test("home shows what nobody has acknowledged before what somebody has", () => {
  const all = [
    alert(1, "critical", { acknowledged: mark }),
    alert(2, "warning"),
    alert(3, "info"),
    alert(4, "critical", { resolved: mark }),
  ];
  expect(urgent(all, 5).map((one) => one.id)).toEqual([2, 1]);
  expect(urgent(all, 1).map((one) => one.id)).toEqual([2]);
});

test("only what does not end by itself can be resolved", () => {
  const all = [
    alert(1, "critical"),
    alert(2, "critical", { by_hand: true, acknowledged: mark }),
    alert(3, "critical", { by_hand: true, resolved: mark }),
  ];
  const { acknowledge, resolve } = possible(all);
  expect(acknowledge.map((one) => one.id)).toEqual([1]);
  expect(resolve.map((one) => one.id)).toEqual([2]);
});
