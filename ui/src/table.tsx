// A table that draws only the rows one sees, so that 10,000 of them scroll.

import { Button, Checkbox, Group, Text, TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useRef, useState } from "react";
import { type Cell, csv, save } from "./format";
import { word } from "./i18n";
import { arrange, type Sort } from "./rows";

export interface Column<Row> {
  id: string;
  title: string;
  /** For order, filter and export. */
  value: (row: Row) => Cell;
  /** What is shown; nothing: the value. */
  show?: (row: Row) => ReactNode;
  right?: boolean;
  width?: string;
}

const ROW_PIXELS = 37;
const COLUMN_PIXELS = 100;
const ROWS_SHOWN_MAX = 16;

/** Pixels that a column has at least. */
function leastPixels(width: string | undefined): number {
  return Number(/(\d+)px/.exec(width ?? "")?.[1] ?? COLUMN_PIXELS);
}

/** Rows stay as they come until somebody sorts them. */
export const AS_GIVEN: Sort = { column: "", down: false };

interface Props<Row> {
  label: string;
  rows: Row[];
  columns: Column<Row>[];
  id: (row: Row) => string;
  /** Things to do with the rows that are chosen. */
  actions?: (chosen: Row[], done: () => void) => ReactNode;
  /** What else is asked about the rows, beside the filter. */
  extra?: ReactNode;
  /** The order at first; nothing: by the first column. */
  order?: Sort;
}

export function DataTable<Row>({ label, rows, columns, id, actions, extra, order }: Props<Row>) {
  const [filter, setFilter] = useState("");
  const [sort, setSort] = useState<Sort>(order ?? { column: columns[0]?.id ?? "", down: false });
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const shown = useMemo(() => arrange(rows, columns, filter, sort), [rows, columns, filter, sort]);
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW_PIXELS,
    overscan: 8,
  });
  const choices = actions !== undefined;
  const template = [
    choices ? "40px" : "",
    ...columns.map((column) => column.width ?? `minmax(${COLUMN_PIXELS}px, 1fr)`),
  ].join(" ");
  const least = columns.reduce((sum, column) => sum + leastPixels(column.width), choices ? 40 : 0);
  const picked = shown.filter((row) => chosen.has(id(row)));
  const done = () => setChosen(new Set());
  const toggle = (key: string) => {
    const next = new Set(chosen);
    if (!next.delete(key)) {
      next.add(key);
    }
    setChosen(next);
  };
  const height = Math.min(ROWS_SHOWN_MAX, Math.max(1, shown.length)) * ROW_PIXELS + ROW_PIXELS + 2;
  const exported = () => shown.map((row) => columns.map((column) => column.value(row)));
  return (
    <div>
      <Group mb="xs" gap="xs" justify="space-between">
        <Group gap="xs">
          <TextInput
            aria-label={`${word("filter")}: ${label}`}
            placeholder={word("filter")}
            value={filter}
            onChange={(event) => setFilter(event.currentTarget.value)}
            size="xs"
            w={220}
          />
          {extra}
          <Text size="sm" c="dimmed" role="status">
            {shown.length === rows.length ? rows.length : `${shown.length} ${word("of")} ${rows.length}`}
            {picked.length > 0 && `, ${picked.length} ${word("selected")}`}
          </Text>
          {picked.length > 0 && actions?.(picked, done)}
        </Group>
        <Group gap={4}>
          <Button
            size="xs"
            variant="default"
            onClick={() =>
              save(
                `${label}.csv`,
                "text/csv",
                csv(
                  columns.map((column) => column.title),
                  exported(),
                ),
              )
            }
          >
            {word("exportCsv")}
          </Button>
          <Button
            size="xs"
            variant="default"
            onClick={() => save(`${label}.json`, "application/json", JSON.stringify(shown, null, 2))}
          >
            {word("exportJson")}
          </Button>
        </Group>
      </Group>
      <div
        className="grid"
        ref={scroll}
        style={{ height }}
        role="table"
        aria-label={label}
        aria-rowcount={shown.length + 1}
        tabIndex={0}
      >
        <div role="rowgroup" style={{ position: "sticky", top: 0, zIndex: 1 }}>
          <div
            className="grid-row grid-head"
            role="row"
            style={{ gridTemplateColumns: template, height: ROW_PIXELS, minWidth: least }}
          >
            {choices && (
              <div className="grid-cell" role="columnheader">
                <Checkbox
                  size="xs"
                  aria-label={word("all")}
                  checked={shown.length > 0 && picked.length === shown.length}
                  indeterminate={picked.length > 0 && picked.length < shown.length}
                  onChange={() =>
                    setChosen(picked.length === shown.length ? new Set() : new Set(shown.map(id)))
                  }
                />
              </div>
            )}
            {columns.map((column) => (
              <div
                key={column.id}
                className={column.right ? "grid-cell right" : "grid-cell"}
                role="columnheader"
                aria-sort={sort.column !== column.id ? "none" : sort.down ? "descending" : "ascending"}
              >
                {column.title !== "" && (
                  <button
                    type="button"
                    className="grid-sort"
                    onClick={() =>
                      setSort({ column: column.id, down: sort.column === column.id && !sort.down })
                    }
                  >
                    {column.title}
                    {sort.column === column.id && (sort.down ? " ▾" : " ▴")}
                  </button>
                )}
              </div>
            ))}
          </div>
        </div>
        <div
          role="rowgroup"
          style={{ height: virtual.getTotalSize(), position: "relative", minWidth: least }}
        >
          {shown.length === 0 && (
            <div role="row">
              <Text size="sm" p="xs" role="cell">
                {word("nothing")}
              </Text>
            </div>
          )}
          {virtual.getVirtualItems().map((item) => {
            const row = shown[item.index];
            if (row === undefined) {
              return null;
            }
            const key = id(row);
            return (
              <div
                key={key}
                className="grid-row"
                role="row"
                aria-rowindex={item.index + 2}
                style={{
                  gridTemplateColumns: template,
                  position: "absolute",
                  top: 0,
                  left: 0,
                  right: 0,
                  height: ROW_PIXELS,
                  transform: `translateY(${item.start}px)`,
                }}
              >
                {choices && (
                  <div className="grid-cell" role="cell">
                    <Checkbox
                      size="xs"
                      aria-label={key}
                      checked={chosen.has(key)}
                      onChange={() => toggle(key)}
                    />
                  </div>
                )}
                {columns.map((column) => (
                  <div key={column.id} className={column.right ? "grid-cell right" : "grid-cell"} role="cell">
                    {column.show ? column.show(row) : column.value(row)}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}
