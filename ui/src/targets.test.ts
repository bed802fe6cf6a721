import { describe, expect, it } from "vitest";
import { specOf, type TargetFields } from "./targets";

const typed: TargetFields = {
  kind: "mail",
  name: " ops ",
  minimum: "warning",
  url: "https://left.from.another.kind",
  secret: "left, too",
  server: "mail.example.com:587",
  security: "starttls",
  user: "azekura",
  password: " with blanks ",
  from: "azekura@example.com",
  to: "a@example.com, b@example.com",
  ca: "",
};

describe("targets of alerts", () => {
  it("have what belongs to their kind, and nothing empty", () => {
    expect(specOf(typed)).toEqual({
      name: "ops",
      kind: "mail",
      minimum: "warning",
      server: "mail.example.com:587",
      security: "starttls",
      user: "azekura",
      password: " with blanks ",
      from: "azekura@example.com",
      to: ["a@example.com", "b@example.com"],
    });
    expect(specOf({ ...typed, kind: "webhook", url: " http://h/ ", secret: "" })).toEqual({
      name: "ops",
      kind: "webhook",
      minimum: "warning",
      url: "http://h/",
    });
  });
});
