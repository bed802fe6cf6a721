import { expect, test } from "vitest";
import { nextRow } from "./table-keys";

test("arrows go from row to row and stop at the ends", () => {
  expect(nextRow("ArrowDown", 4, 0, 10, 5)).toBe(5);
  expect(nextRow("ArrowDown", 9, 0, 10, 5)).toBe(9);
  expect(nextRow("ArrowUp", 4, 0, 10, 5)).toBe(3);
  expect(nextRow("ArrowUp", 0, 0, 10, 5)).toBe(0);
});

test("from the table itself the first row that is seen comes first", () => {
  expect(nextRow("ArrowDown", null, 7, 10, 5)).toBe(7);
  expect(nextRow("ArrowUp", null, 7, 10, 5)).toBe(7);
});

test("other keys go far, and most go nowhere", () => {
  expect(nextRow("PageDown", 3, 0, 10, 5)).toBe(8);
  expect(nextRow("PageDown", 8, 0, 10, 5)).toBe(9);
  expect(nextRow("PageUp", 3, 0, 10, 5)).toBe(0);
  expect(nextRow("Home", 3, 0, 10, 5)).toBe(0);
  expect(nextRow("End", 3, 0, 10, 5)).toBe(9);
  expect(nextRow("a", 3, 0, 10, 5)).toBeNull();
  expect(nextRow("ArrowDown", null, 0, 0, 5)).toBeNull();
});
