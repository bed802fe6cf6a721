// Order and filter of a table's rows.

import type { Cell } from "./format";

export interface Sort {
  column: string;
  down: boolean;
}

interface Valued<Row> {
  id: string;
  value: (row: Row) => Cell;
}

/** Texts as people order them, with `v10` behind `v9`. */
const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function compare(one: Cell, other: Cell): number {
  if (typeof one === "number" && typeof other === "number") {
    return one - other;
  }
  return order.compare(String(one), String(other));
}

/** Rows that have every word of the filter in one of their texts, in order; those without a value last. */
export function arrange<Row>(rows: Row[], columns: Valued<Row>[], filter: string, sort: Sort): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (row: Row) => {
    const text = columns
      .map((column) => column.value(row) ?? "")
      .join("\n")
      .toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const found = words.length === 0 ? [...rows] : rows.filter(fits);
  const by = columns.find((column) => column.id === sort.column);
  if (!by) {
    return found;
  }
  const keyed = found.map((row) => ({ row, key: by.value(row) }));
  keyed.sort((one, other) => {
    if (one.key === null || other.key === null) {
      return Number(one.key === null) - Number(other.key === null);
    }
    const less = compare(one.key, other.key);
    return sort.down ? -less : less;
  });
  return keyed.map(({ row }) => row);
}
