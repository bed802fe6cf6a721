// Numbers and times for people; lists for other programs.

import { word } from "./i18n";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** Bytes with three digits at least, such as `1.50 GiB`. */
export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined) {
    return "–";
  }
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Bytes that may be fewer than none. */
export function signed(count: number): string {
  return count < 0 ? `-${bytes(-count)}` : bytes(count);
}

/** How many times less something takes, such as `1.25 : 1`. */
export function ratio(hundredths: number): string {
  return `${(hundredths / 100).toFixed(2)} : 1`;
}

/** Bytes of a text such as `20 GiB`, `512m` or `4096`; nothing when it is none. */
export function parseBytes(text: string): number | null {
  const found = /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$/i.exec(text);
  if (!found) {
    return null;
  }
  const power = "kmgtp".indexOf((found[2] ?? "").toLowerCase()) + 1;
  const value = Number(found[1]) * 1024 ** (found[2] ? power : 0);
  return Number.isSafeInteger(Math.round(value)) ? Math.round(value) : null;
}

export function percent(part: number, whole: number): number {
  return whole > 0 ? Math.min(100, (part / whole) * 100) : 0;
}

/** The same to the thousandth of a second. */
export function exactTime(ms: number, language: string): string {
  return new Date(ms).toLocaleString(language === "ja" ? "ja-JP" : "en-GB", {
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    fractionalSecondDigits: 3,
  });
}

export function time(ms: number, language: string): string {
  return new Date(ms).toLocaleString(language === "ja" ? "ja-JP" : "en-GB", {
    dateStyle: "medium",
    timeStyle: "short",
  });
}

export function seconds(count: number): string {
  if (count < 90) {
    return word("timeSeconds", Math.round(count));
  }
  return count < 5400
    ? word("timeMinutes", Math.round(count / 60))
    : word("timeHours", (count / 3600).toFixed(1));
}

/** How old something is: `45 s`, `3.5 h`, `12 d`. */
export function age(ms: number): string {
  const count = Math.max(0, ms) / 1000;
  return count < 2 * 86_400 ? seconds(count) : word("timeDays", Math.floor(count / 86_400));
}

/** A number of a rate: `3.2`, `120`, `12.5k`. */
export function count(value: number): string {
  if (value >= 10_000) {
    return `${(value / 1000).toFixed(value >= 100_000 ? 0 : 1)}k`;
  }
  return value > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

/** Bytes per second. */
export function perSecond(value: number): string {
  return `${bytes(value < 1024 ? Math.round(value) : value)}/s`;
}

/** Microseconds, as people say them. */
export function micros(value: number): string {
  if (value < 1000) {
    return `${value.toFixed(0)} µs`;
  }
  return value < 1_000_000 ? `${(value / 1000).toFixed(1)} ms` : `${(value / 1_000_000).toFixed(1)} s`;
}

/** What is measured, or that it is not. */
export function shown(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? "–" : format(value);
}

export type Cell = string | number | null;

/** A field of a CSV file (RFC 4180). One that a spreadsheet would take for a formula is kept from that. */
function field(cell: Cell): string {
  if (cell === null) {
    return "";
  }
  const text = typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(head: string[], rows: Cell[][]): string {
  return [head, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

/** Has the browser save a text. */
export function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
