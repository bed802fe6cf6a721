// A table that draws only the rows one sees, so that 10,000 of them scroll.

import { Button, Checkbox, Group, Text, TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useRef, useState } from "react";
import { type Cell, csv, save } from "./format";
import { word } from "./i18n";
import { arrange, type Sort } from "./rows";
import { onTableKey } from "./table-keys";

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
const CHOICE_PIXELS = 40;
const ROWS_SHOWN_MAX = 16;
/** Below the last row that is seen: the height of the titles above the rows, and of a scroll bar. */
const PADDING_PIXELS = ROW_PIXELS + 16;

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
  /** The filter at first. */
  first?: string;
}

function Export<Row>({ label, columns, shown }: { label: string; columns: Column<Row>[]; shown: Row[] }) {
  const saveCsv = () => {
    const titles = columns.map((column) => column.title);
    const cells = shown.map((row) => columns.map((column) => column.value(row)));
    save(`${label}.csv`, "text/csv", csv(titles, cells));
  };
  const saveJson = () => save(`${label}.json`, "application/json", JSON.stringify(shown, null, 2));
  return (
    <Group gap={4}>
      <Button size="xs" variant="default" onClick={saveCsv}>
        {word("exportCsv")}
      </Button>
      <Button size="xs" variant="default" onClick={saveJson}>
        {word("exportJson")}
      </Button>
    </Group>
  );
}

/** Title of a column that sorts by it. */
function Title<Row>(props: { column: Column<Row>; sort: Sort; setSort: (sort: Sort) => void }) {
  const { column, sort, setSort } = props;
  const own = sort.column === column.id;
  return (
    <div
      className={column.right ? "grid-cell right" : "grid-cell"}
      role="columnheader"
      aria-sort={!own ? "none" : sort.down ? "descending" : "ascending"}
    >
      {column.title !== "" && (
        <button
          type="button"
          className="grid-sort"
          title={column.title}
          onClick={() => setSort({ column: column.id, down: own && !sort.down })}
        >
          {column.title}
          {own && (sort.down ? " ▾" : " ▴")}
        </button>
      )}
    </div>
  );
}

/** Chooses all rows that are shown, or none. */
function All(props: { shown: number; picked: number; choose: (all: boolean) => void }) {
  const { shown, picked, choose } = props;
  return (
    <div className="grid-cell" role="columnheader">
      <Checkbox
        size="xs"
        aria-label={word("all")}
        checked={shown > 0 && picked === shown}
        indeterminate={picked > 0 && picked < shown}
        onChange={() => choose(picked !== shown)}
      />
    </div>
  );
}

function Cells<Row>({ row, columns }: { row: Row; columns: Column<Row>[] }) {
  return columns.map((column) => (
    <div key={column.id} className={column.right ? "grid-cell right" : "grid-cell"} role="cell">
      {column.show ? column.show(row) : column.value(row)}
    </div>
  ));
}

/** Which rows are chosen, by their ids. */
function useChoice<Row>(shown: Row[], id: (row: Row) => string) {
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const toggle = (key: string) => {
    const next = new Set(chosen);
    if (!next.delete(key)) {
      next.add(key);
    }
    setChosen(next);
  };
  return {
    chosen,
    picked: shown.filter((row) => chosen.has(id(row))),
    toggle,
    choose: (all: boolean) => setChosen(all ? new Set(shown.map(id)) : new Set()),
  };
}

/** What a table needs of the page to draw its columns. */
function layout<Row>(columns: Column<Row>[], choices: boolean): { template: string; least: number } {
  const widths = columns.map((column) => column.width ?? `minmax(${COLUMN_PIXELS}px, 1fr)`);
  const own = choices ? CHOICE_PIXELS : 0;
  return {
    template: [choices ? `${CHOICE_PIXELS}px` : "", ...widths].join(" "),
    least: columns.reduce((sum, column) => sum + leastPixels(column.width), own),
  };
}

interface GridProps<Row> {
  label: string;
  shown: Row[];
  columns: Column<Row>[];
  id: (row: Row) => string;
  sort: Sort;
  setSort: (sort: Sort) => void;
  /** Nothing: rows are not chosen here. */
  choice: ReturnType<typeof useChoice<Row>> | null;
}

function Head<Row>({ columns, shown, sort, setSort, choice }: GridProps<Row>) {
  const { template, least } = layout(columns, choice !== null);
  return (
    <div role="rowgroup" style={{ position: "sticky", top: 0, zIndex: 1 }}>
      <div
        className="grid-row grid-head"
        role="row"
        style={{ gridTemplateColumns: template, height: ROW_PIXELS, minWidth: least }}
      >
        {choice && <All shown={shown.length} picked={choice.picked.length} choose={choice.choose} />}
        {columns.map((column) => (
          <Title key={column.id} column={column} sort={sort} setSort={setSort} />
        ))}
      </div>
    </div>
  );
}

function Line<Row>(props: GridProps<Row> & { index: number; start: number }) {
  const { shown, columns, id, choice, index, start } = props;
  const row = shown[index];
  if (row === undefined) {
    return null;
  }
  const key = id(row);
  return (
    <div
      className="grid-row"
      role="row"
      aria-rowindex={index + 2}
      data-row={index}
      tabIndex={-1}
      style={{
        gridTemplateColumns: layout(columns, choice !== null).template,
        position: "absolute",
        top: 0,
        left: 0,
        right: 0,
        height: ROW_PIXELS,
        transform: `translateY(${start}px)`,
      }}
    >
      {choice && (
        <div className="grid-cell" role="cell">
          <Checkbox
            size="xs"
            aria-label={key}
            checked={choice.chosen.has(key)}
            onChange={() => choice.toggle(key)}
          />
        </div>
      )}
      <Cells row={row} columns={columns} />
    </div>
  );
}

function Grid<Row>(props: GridProps<Row>) {
  const { label, shown, columns, id, choice } = props;
  const scroll = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW_PIXELS,
    overscan: 8,
    scrollPaddingEnd: PADDING_PIXELS,
  });
  const toggle = (index: number) => {
    const row = shown[index];
    if (row !== undefined) {
      choice?.toggle(id(row));
    }
  };
  const keys = {
    scroll,
    count: shown.length,
    page: ROWS_SHOWN_MAX - 1,
    first: () => Math.ceil((virtual.scrollOffset ?? 0) / ROW_PIXELS),
    show: (index: number) => virtual.scrollToIndex(index),
    toggle: choice ? toggle : null,
  };
  const height = Math.min(ROWS_SHOWN_MAX, Math.max(1, shown.length)) * ROW_PIXELS + ROW_PIXELS + 2;
  const { least } = layout(columns, choice !== null);
  return (
    <div
      className="grid"
      ref={scroll}
      style={{ height }}
      role="table"
      aria-label={label}
      aria-rowcount={shown.length + 1}
      tabIndex={0}
      onKeyDown={(event) => onTableKey(event, keys)}
    >
      <Head {...props} />
      <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: "relative", minWidth: least }}>
        {shown.length === 0 && (
          <div role="row">
            <Text size="sm" p="xs" role="cell">
              {word("nothing")}
            </Text>
          </div>
        )}
        {virtual.getVirtualItems().map((item) => {
          const row = shown[item.index];
          return row !== undefined && <Line key={id(row)} {...props} index={item.index} start={item.start} />;
        })}
      </div>
    </div>
  );
}

export function DataTable<Row>({ label, rows, columns, id, actions, extra, order, first }: Props<Row>) {
  const [filter, setFilter] = useState(first ?? "");
  const [sort, setSort] = useState<Sort>(order ?? { column: columns[0]?.id ?? "", down: false });
  const shown = useMemo(() => arrange(rows, columns, filter, sort), [rows, columns, filter, sort]);
  const choice = useChoice(shown, id);
  const { picked } = choice;
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
          {picked.length > 0 && actions?.(picked, () => choice.choose(false))}
        </Group>
        <Export label={label} columns={columns} shown={shown} />
      </Group>
      <Grid
        label={label}
        shown={shown}
        columns={columns}
        id={id}
        sort={sort}
        setSort={setSort}
        choice={actions ? choice : null}
      />
    </div>
  );
}
