import { describe, expect, it } from "vitest";
import { logPath, pairs, searchOf } from "./logs";

describe("logs", () => {
  it("takes from an address what makes sense", () => {
    const search = searchOf({ volume: " db ", task: 7, level: "warn", text: "", node: 1.5, other: "x" });
    expect(search).toEqual({ volume: "db", task: "7", level: "warn", node: "1.5" });
    expect(searchOf({ level: "loud", request: null })).toEqual({});
  });

  it("asks the API with what is to be escaped", () => {
    expect(logPath({ text: "a b&c" })).toBe("/logs?limit=1000&text=a+b%26c");
  });

  it("quotes values with blanks", () => {
    expect(pairs({ error: "no answer", volume: "db", empty: "" })).toBe(
      'error="no answer" volume=db empty=""',
    );
  });
});
