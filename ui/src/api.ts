// Calls to the API of the node that served the page.

import { word } from "./i18n";

export class ApiError extends Error {
  constructor(
    readonly kind: string,
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

const PREFIX = "/api/v1";

/** The path of parts, each encoded. */
export function path(...parts: (string | number)[]): string {
  return parts.map((part) => `/${encodeURIComponent(part)}`).join("");
}

type Headers = Record<string, string>;

/** Has a change made only while the version is still this one; not known: whatever it is. */
export function onTopOf(version: number | null | undefined): Headers {
  return version === null || version === undefined ? {} : { "if-match": `"${version}"` };
}

/** Asks; the answer's value, or an `ApiError` that says why there is none. */
export async function call<T>(method: string, where: string, body?: unknown, more?: Headers): Promise<T> {
  const headers: Headers = { ...more };
  if (method !== "GET") {
    headers["content-type"] = "application/json";
    headers["x-azekura-request"] = "1";
  }
  let response: Response;
  try {
    response = await fetch(PREFIX + where, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new ApiError("unreachable", word("unreachable"), 0);
  }
  const text = await response.text();
  let value: unknown = null;
  try {
    value = text === "" ? null : JSON.parse(text);
  } catch {
    throw new ApiError("odd", word("oddAnswer", response.status), response.status);
  }
  if (!response.ok) {
    const problem = value as { kind?: string; message?: string } | null;
    const kind = problem?.kind ?? "failed";
    if (kind === "unauthenticated" && where !== "/session") {
      window.dispatchEvent(new Event("azekura-logged-out"));
    }
    throw new ApiError(kind, problem?.message ?? word("statusOnly", response.status), response.status);
  }
  return value as T;
}

export const get = <T>(where: string): Promise<T> => call<T>("GET", where);
