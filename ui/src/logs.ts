// Which lines of the nodes' logs are asked for: kept in the page's address, so that it can be passed on.

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

/** What a line is about, as `name=value` pairs. */
export function pairs(fields: Record<string, string>): string {
  const quoted = (value: string) => (/^\S+$/.test(value) ? value : JSON.stringify(value));
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${quoted(value)}`)
    .join(" ");
}
