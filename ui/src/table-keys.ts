// The keyboard in a table: which row a key leads to, and how it gets the focus there.
//
// Tab goes through everything as anywhere. Arrows go from row to row and stay in their column; Home, End and the keys of pages
// go far; Enter opens the row, and the space bar chooses it.

import type { KeyboardEvent, RefObject } from "react";

/** Frames that a row may take to be drawn once it was scrolled to. */
const FRAMES_MAX = 20;
const CONTROLS = "a[href], button:not([disabled]), input:not([disabled])";

/** The row that a key leads to from one; nothing: the key is not for rows. Without one: from before the first that is seen. */
export function nextRow(key: string, from: number | null, first: number, count: number, page: number) {
  const at = (index: number) => Math.max(0, Math.min(count - 1, index));
  if (count === 0) {
    return null;
  }
  switch (key) {
    case "ArrowDown":
      return at(from === null ? first : from + 1);
    case "ArrowUp":
      return at(from === null ? first : from - 1);
    case "PageDown":
      return at((from ?? first) + page);
    case "PageUp":
      return at((from ?? first) - page);
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return null;
  }
}

interface Rows {
  scroll: RefObject<HTMLDivElement | null>;
  count: number;
  /** Rows that are seen at once. */
  page: number;
  /** The first row that is seen. */
  first: () => number;
  show: (index: number) => void;
  /** Chooses a row, or does not any more; nothing: rows are not chosen here. */
  toggle: ((index: number) => void) | null;
}

/** Gives a row the focus, or the same control in it, as soon as it is drawn. */
function focusOn(scroll: HTMLElement, index: number, control: number, frames = FRAMES_MAX): void {
  const row = scroll.querySelector<HTMLElement>(`[data-row="${index}"]`);
  if (row) {
    const controls = row.querySelectorAll<HTMLElement>(CONTROLS);
    (controls[control] ?? row).focus();
  } else if (frames > 0) {
    requestAnimationFrame(() => focusOn(scroll, index, control, frames - 1));
  }
}

/** What a table does with a key; true: it was for it. */
function handled(event: KeyboardEvent<HTMLDivElement>, rows: Rows): boolean {
  const target = event.target as HTMLElement;
  const scroll = rows.scroll.current;
  const row = target.closest<HTMLElement>("[data-row]");
  const from = row ? Number(row.dataset.row) : null;
  if (!scroll || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) {
    return false;
  }
  if (row === null && target !== scroll) {
    // The titles of the columns.
    return false;
  }
  if (row !== null && target === row && event.key === "Enter") {
    row.querySelector<HTMLElement>("a[href], button:not([disabled])")?.click();
    return true;
  }
  if (row !== null && target === row && event.key === " " && from !== null && rows.toggle) {
    rows.toggle(from);
    return true;
  }
  const to = nextRow(event.key, from, rows.first(), rows.count, rows.page);
  if (to === null) {
    return false;
  }
  const control = row ? [...row.querySelectorAll(CONTROLS)].indexOf(target) : -1;
  rows.show(to);
  focusOn(scroll, to, control);
  return true;
}

export function onTableKey(event: KeyboardEvent<HTMLDivElement>, rows: Rows): void {
  if (handled(event, rows)) {
    event.preventDefault();
  }
}
