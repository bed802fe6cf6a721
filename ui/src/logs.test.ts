import { describe, expect, it } from "vitest";
import { followed, followPath, logPath, pairs, searchOf, whose } from "./logs";
import type { LogLine, Logs } from "./types";

function line(node: string, number: number, at_ms: number): LogLine {
  return { node, number, at_ms, level: "info", target: "node", message: "ready", fields: {} };
}

const known: Logs = { lines: [line("a", 1, 10), line("b", 1, 20)], more: false, since_ms: 5, silent: [] };

describe("logs", () => {
  it("takes from an address what makes sense", () => {
    const search = searchOf({ volume: " db ", task: 7, level: "warn", text: "", node: 1.5, other: "x" });
    expect(search).toEqual({ volume: "db", task: "7", level: "warn", node: "1.5" });
    expect(searchOf({ level: "loud", request: null })).toEqual({});
  });

  it("asks the API with what is to be escaped", () => {
    expect(logPath({ text: "a b&c" })).toBe("/logs?limit=1000&text=a+b%26c");
  });

  it("adds what came, each line once and in order", () => {
    const came = { ...known, lines: [line("b", 1, 20), line("a", 2, 15), line("a", 1, 30)], silent: ["c"] };
    const all = followed(known, came);
    expect(all.lines.map((one) => one.at_ms)).toEqual([10, 15, 20, 30]);
    expect(all.silent).toEqual(["c"]);
    expect(followed(all, came).lines).toBe(all.lines);
  });

  it("names the machine of a line that was told", () => {
    const origin = { component: "csi-node", host: "worker-1", by: "token prod" };
    expect(whose(line("a", 1, 10))).toBe("a");
    expect(whose({ ...line("a", 1, 10), origin })).toBe("worker-1/csi-node");
  });

  it("lets the oldest lines give way", () => {
    const many = Array.from({ length: 1000 }, (_, number) => line("c", number, 100 + number));
    const all = followed(known, { ...known, lines: many });
    expect(all.lines.length).toBe(1000);
    expect(all.lines[0]?.number).toBe(0);
    expect(all.more).toBe(true);
  });

  it("follows from the newest line on", () => {
    expect(followPath({ level: "warn" }, known)).toBe("/logs/follow?level=warn&from=20");
    expect(followPath({}, { ...known, lines: [] })).toBe("/logs/follow?");
  });

  it("quotes values with blanks", () => {
    expect(pairs({ error: "no answer", volume: "db", empty: "" })).toBe(
      'error="no answer" volume=db empty=""',
    );
  });
});
