import { expect, test } from "vitest";
import { browserCertificates, MEANINGS, policiesOf, rowsOf, valueText } from "./node-settings";

test("values are shown in the unit that fits", () => {
  const shown = (value: number, unit: string) => valueText({ value, unit });
  expect(shown(75, "percent")).toBe("75 %");
  expect(shown(604_800_000, "milliseconds")).toBe("7 d");
  expect(shown(1500, "milliseconds")).toBe("1500 ms");
  expect(shown(90_000, "milliseconds")).toBe("90 s");
  expect(shown(0, "milliseconds")).toBe("0 ms");
  expect(shown(64, "count")).toBe("64");
});

test("nodes that agree share a value, and thresholds come first", () => {
  const rows = rowsOf([
    { key: "lease", node: "a", value: 2000, unit: "milliseconds" },
    { key: "lease", node: "b", value: 3000, unit: "milliseconds" },
    { key: "new-one", node: "a", value: 1, unit: "count" },
    { key: "space-warning-percent", node: "a", value: 75, unit: "percent" },
    { key: "space-warning-percent", node: "b", value: 75, unit: "percent" },
  ]);
  expect(rows).toEqual([
    { key: "space-warning-percent", values: [{ value: "75 %", nodes: ["a", "b"] }] },
    {
      key: "lease",
      values: [
        { value: "2 s", nodes: ["a"] },
        { value: "3 s", nodes: ["b"] },
      ],
    },
    { key: "new-one", values: [{ value: "1", nodes: ["a"] }] },
  ]);
  expect(new Set(Object.values(MEANINGS)).size).toBe(Object.keys(MEANINGS).length);
});

test("the end of a certificate is no policy, and has a place of its own", () => {
  const lease = { key: "lease", node: "a", value: 2000, unit: "milliseconds" };
  const shown = { key: "tls.certificate", node: "b", value: 1_800_000_000_000, unit: "unix-milliseconds" };
  expect(policiesOf([lease, shown])).toEqual([lease]);
  expect(browserCertificates([lease, shown])).toEqual([shown]);
});
