// What a change of the audit log made other: its fields before and after, side by side.

import { bytes, time } from "./format";
import type { AuditEntry } from "./types";

/** `same`: asked for, and so it was already; `kept`: known from before, and the change does not name it. */
export type Fate = "changed" | "added" | "removed" | "same" | "kept";

export interface Difference {
  /** Dotted where fields lie within fields, such as `labels.app`. */
  field: string;
  fate: Fate;
  /** Nothing: there was none, or nobody knows. */
  before: unknown;
  after: unknown;
}

type Fields = Record<string, unknown>;

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Levels of fields within fields that are looked into; what is deeper is one value. */
const DEPTH_MAX = 4;

/** Every field with its whole name. */
function flat(fields: Fields | null | undefined, prefix = "", depth = 0): Map<string, unknown> {
  const all = new Map<string, unknown>();
  for (const [name, value] of Object.entries(fields ?? {})) {
    const whole = prefix + name;
    if (isFields(value) && depth < DEPTH_MAX && Object.keys(value).length > 0) {
      for (const [inner, one] of flat(value, `${whole}.`, depth + 1)) {
        all.set(inner, one);
      }
    } else {
      all.set(whole, value);
    }
  }
  return all;
}

const isNone = (value: unknown): boolean => value === null || value === undefined;
const isSame = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** What became of a field of a change that knows both sides, or one of them. */
function fateOf(name: string, before: Map<string, unknown>, after: Map<string, unknown>): Fate {
  const [old, fresh] = [before.get(name), after.get(name)];
  if (!after.has(name)) {
    return after.size === 0 ? "removed" : "kept";
  }
  if (isSame(old, fresh) || (isNone(old) && isNone(fresh))) {
    return "same";
  }
  if (isNone(old)) {
    return "added";
  }
  return isNone(fresh) ? "removed" : "changed";
}

const ORDER: Fate[] = ["changed", "added", "removed", "same", "kept"];

/** Field by field, those first that became other. Nothing where nothing was written down, nor of what is not there and not named. */
export function differences({ before, after }: Pick<AuditEntry, "before" | "after">): Difference[] {
  const [old, fresh] = [flat(before), flat(after)];
  const names = new Set([...fresh.keys(), ...old.keys()]);
  return [...names]
    .map((field) => ({
      field,
      fate: fateOf(field, old, fresh),
      before: old.get(field),
      after: fresh.get(field),
    }))
    .filter(({ fate, before }) => fate !== "kept" || !isNone(before))
    .toSorted((one, other) => ORDER.indexOf(one.fate) - ORDER.indexOf(other.fate));
}

/** Fields that count bytes. */
const BYTES = new Set(["size", "quota", "bandwidth_limit", "mapped", "provisioned"]);

/** A value for people; a number of bytes also to the byte, so that two that differ never look the same. */
export function valueText(field: string, value: unknown, language: string): string {
  const name = field.split(".").at(-1) ?? field;
  if (isNone(value)) {
    return "–";
  }
  if (typeof value === "number" && BYTES.has(name)) {
    return `${bytes(value)} (${value})`;
  }
  if (typeof value === "number" && name.endsWith("_ms") && value > 0) {
    return time(value, language);
  }
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) {
    return value.length === 0 ? "[]" : value.join(", ");
  }
  return typeof value === "string" ? value || '""' : JSON.stringify(value);
}

/** All that became other in one line; nothing where nothing was written down. */
export function changeText(entry: AuditEntry, language: string): string {
  return differences(entry)
    .filter(({ fate }) => fate !== "same" && fate !== "kept")
    .map(({ field, fate, before, after }) => {
      const old = valueText(field, before, language);
      const fresh = valueText(field, after, language);
      switch (fate) {
        case "added":
          return `${field}: ${fresh}`;
        case "removed":
          return `${field}: ${old} → –`;
        default:
          return `${field}: ${old} → ${fresh}`;
      }
    })
    .join("; ");
}
