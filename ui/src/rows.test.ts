import { expect, test } from "vitest";
import { arrange } from "./rows";

interface Row {
  name: string;
  size: number | null;
}

const columns = [
  { id: "name", value: (row: Row) => row.name },
  { id: "size", value: (row: Row) => row.size },
];
const rows: Row[] = [
  { name: "v10", size: 3 },
  { name: "v9", size: null },
  { name: "Db", size: 20 },
];
const names = (found: Row[]) => found.map((row) => row.name);

test("names are in the order that people expect", () => {
  expect(names(arrange(rows, columns, "", { column: "name", down: false }))).toEqual(["Db", "v9", "v10"]);
  expect(names(arrange(rows, columns, "", { column: "name", down: true }))).toEqual(["v10", "v9", "Db"]);
});

test("rows without a value are last in both directions", () => {
  expect(names(arrange(rows, columns, "", { column: "size", down: false }))).toEqual(["v10", "Db", "v9"]);
  expect(names(arrange(rows, columns, "", { column: "size", down: true }))).toEqual(["Db", "v10", "v9"]);
});

test("every word of a filter must be found", () => {
  expect(names(arrange(rows, columns, "v 3", { column: "name", down: false }))).toEqual(["v10"]);
  expect(arrange(rows, columns, "none", { column: "name", down: false })).toEqual([]);
});

test("10,000 rows are arranged while one types", () => {
  const many = Array.from({ length: 10_000 }, (_, at) => ({ name: `volume ${at}`, size: at % 97 }));
  const began = performance.now();
  expect(arrange(many, columns, "volume 99", { column: "size", down: true }).length).toBeGreaterThan(100);
  expect(performance.now() - began).toBeLessThan(1000);
});
