// Which lines of the nodes' logs are asked for: kept in the page's address, so that it can be passed on. And what comes after them.

import type { LogLine, Logs } from "./types";

export const LEVELS = ["error", "warn", "info", "debug", "trace"] as const;
/** As many as the API answers at once. */
const LIMIT = 1000;

const TEXTS = ["volume", "task", "request", "node", "text"] as const;

export interface LogSearch {
  volume?: string;
  task?: string;
  request?: string;
  node?: string;
  text?: string;
  level?: string;
}

/** What an address asks for; what makes no sense is left out. */
export function searchOf(given: Record<string, unknown>): LogSearch {
  const search: LogSearch = {};
  for (const name of TEXTS) {
    const value = given[name];
    const text = typeof value === "number" ? String(value) : value;
    if (typeof text === "string" && text.trim() !== "") {
      search[name] = text.trim();
    }
  }
  if (LEVELS.some((level) => level === given.level)) {
    search.level = String(given.level);
  }
  return search;
}

/** Where the API answers it. */
export function logPath(search: LogSearch): string {
  const query = new URLSearchParams({ limit: String(LIMIT) });
  for (const [name, value] of Object.entries(search)) {
    query.set(name, value);
  }
  return `/logs?${query}`;
}

/** Where the API tells what comes after the lines that are there. */
export function followPath(search: LogSearch, known: Logs): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(search)) {
    query.set(name, value);
  }
  const newest = known.lines.at(-1);
  if (newest) {
    query.set("from", String(newest.at_ms));
  }
  return `/logs/follow?${query}`;
}

/** A line's own name: numbers begin anew with a node's process. */
export const lineId = (line: LogLine): string => `${line.node}/${line.number}/${line.at_ms}`;

/** Whose line it is: a node's, or that of a program on some machine. */
export const whose = (line: LogLine): string =>
  line.origin ? `${line.origin.host}/${line.origin.component}` : line.node;

/** Lines with those that came since, oldest first; the oldest give way. */
export function followed(known: Logs, came: Logs): Logs {
  const there = new Set(known.lines.map(lineId));
  const fresh = came.lines.filter((line) => !there.has(lineId(line)));
  if (fresh.length === 0) {
    return { ...known, silent: came.silent };
  }
  const lines = [...known.lines, ...fresh].sort((one, other) => one.at_ms - other.at_ms);
  const over = Math.max(0, lines.length - LIMIT);
  return {
    ...known,
    lines: lines.slice(over),
    more: known.more || came.more || over > 0,
    silent: came.silent,
  };
}

/** What a line is about, as `name=value` pairs. */
export function pairs(fields: Record<string, string>): string {
  const quoted = (value: string) => (/^\S+$/.test(value) ? value : JSON.stringify(value));
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${quoted(value)}`)
    .join(" ");
}
