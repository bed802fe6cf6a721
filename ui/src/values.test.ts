import { existsSync, readFileSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { age, seconds } from "./format";
import { errorText, setLanguage, valueWord, word } from "./i18n";
import { valueText } from "./node-settings";
import { KINDS, STATES, UNITS } from "./task-words";
import { VALUES, type ValueOf } from "./values";
import { en, ja, type Word } from "./words";

const REPOSITORY = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
/** The pages' sources alone are not the whole repository. */
const alone = !existsSync(`${REPOSITORY}/docs/operating`);
const text = (path: string): string => readFileSync(`${REPOSITORY}/${path}`, "utf8");

/** A text with a Japanese letter. */
const JAPANESE = /[\u3040-\u30ff\u4e00-\u9fff]/;
/** Names that are the same everywhere. */
const NAMES = new Set([
  "Azekura",
  "CSV",
  "JSON",
  "IOPS",
  "Kubernetes",
  "UID",
  "/",
  "English",
  "LZ4",
  "Webhook",
  "Alertmanager",
  "STARTTLS",
  "TLS",
]);

afterEach(() => setLanguage("en"));

test("every word has a Japanese text", () => {
  expect(Object.keys(ja).sort()).toEqual(Object.keys(en).sort());
  const odd = (Object.keys(en) as Word[]).filter((key) => !JAPANESE.test(ja[key]) && !NAMES.has(ja[key]));
  expect(odd).toEqual([]);
});

test("a Japanese text has the places of the English one", () => {
  const places = (one: string) => (one.match(/\{\d\}/g) ?? []).sort();
  for (const key of Object.keys(en) as Word[]) {
    expect(places(ja[key]), key).toEqual(places(en[key]));
  }
});

test("everything that the API says has a Japanese text", () => {
  for (const [of, words] of Object.entries(VALUES)) {
    for (const [value, told] of Object.entries(words)) {
      expect(JAPANESE.test(told) || NAMES.has(told), `${of}: ${value}`).toBe(true);
    }
  }
});

/** Names in the first cells of the table below a heading row, such as `| kind | severity`. */
function firstCells(path: string, head: string): string[] {
  const lines = text(path).split("\n");
  const from = lines.findIndex((line) => line.startsWith(head));
  const table = lines.slice(from + 2);
  const end = table.findIndex((line) => !line.startsWith("|"));
  const cells = table.slice(0, end).map((line) => line.split("|")[1] ?? "");
  return cells.flatMap((cell) => [...cell.matchAll(/`([a-z0-9-]+)`/g)].map((one) => one[1] ?? ""));
}

/** Names in the comment above a field of the API's answers. */
function told(path: string, field: string): string[] {
  const found = text(path).matchAll(
    new RegExp(`((?:^ *///.*\\n)+)(?:^ *#\\[.*\\n)*^ *pub ${field}: String`, "gm"),
  );
  return [...found].flatMap(([, comment]) => {
    return [...(comment ?? "").matchAll(/`([a-z0-9-]+)`/g)].map((one) => one[1] ?? "");
  });
}

/** Fails for each that has no Japanese text; and when there are none, since then the test looks at the wrong place. */
function known(names: string[], ...of: ValueOf[]): void {
  expect(names.length).toBeGreaterThan(1);
  const all = Object.assign({}, ...of.map((one) => VALUES[one])) as Record<string, string>;
  expect(names.filter((name) => all[name] === undefined)).toEqual([]);
}

test.skipIf(alone)("kinds of events, alerts and errors of the documents have a Japanese text", () => {
  known(firstCells("docs/operating/events.md", "| kind | severity"), "event");
  known(firstCells("docs/operating/alerts.md", "| kind | severity"), "alert");
  const errors = firstCells("docs/operating/api.md", "| kind | status");
  known(errors, "error");
  known([...errors, "done"], "outcome");
});

test.skipIf(alone)("states of the API's answers have a Japanese text", () => {
  const answers = "crates/api/src/answer.rs";
  known(told(answers, "state"), "state");
  known(told(answers, "standing"), "standing");
  known(told(answers, "space"), "space");
  known(told(answers, "compression"), "compression");
  known(told("crates/api/src/disks.rs", "state"), "state");
});

test.skipIf(alone)("kinds, states and units of tasks have words", () => {
  const kinds = firstCells("docs/operating/tasks.md", "| kind | about");
  expect(kinds.length).toBeGreaterThan(1);
  expect(kinds.filter((kind) => KINDS[kind] === undefined)).toEqual([]);
  const answers = "crates/api/src/task.rs";
  const states = told(answers, "status");
  const units = told(answers, "unit").filter((unit) => unit !== "bytes");
  expect(Math.min(states.length, units.length)).toBeGreaterThan(1);
  expect(states.filter((status) => STATES[status] === undefined)).toEqual([]);
  expect(units.filter((unit) => UNITS[unit] === undefined)).toEqual([]);
});

test("what the API says stays in English, and unknown words stay as they are", () => {
  expect(valueWord("state", "ready")).toBe("ready");
  expect(errorText("not-found", "there is no such volume")).toBe("there is no such volume");
  setLanguage("ja");
  expect(valueWord("state", "ready")).toBe("準備完了");
  expect(valueWord("state", "unheard-of")).toBe("unheard-of");
  expect(errorText("not-found", "no volume")).toBe("見つかりません: no volume");
  expect(errorText("unheard-of", "no volume")).toBe("no volume");
  expect(word("home")).toBe("ホーム");
});

test("times are in Japanese, too", () => {
  setLanguage("ja");
  expect(seconds(59)).toBe("59 秒");
  expect(seconds(7200)).toBe("2.0 時間");
  expect(age(86_400_000 * 12)).toBe("12 日");
  expect(valueText({ value: 3_600_000, unit: "milliseconds" })).toBe("1 時間");
});
