import { expect, test } from "vitest";
import { attachments, changesOf, growing } from "./bulk";
import type { Volume } from "./types";

const volume = (name: string, clients: string[], size = 0) =>
  ({ name, size, attachment: { clients } }) as Volume;

test("every client of every chosen volume is detached", () => {
  expect(attachments([volume("a", ["x", "y"]), volume("b", []), volume("c", ["x"])])).toEqual([
    { volume: "a", client: "x" },
    { volume: "a", client: "y" },
    { volume: "c", client: "x" },
  ]);
});

test("no volume gets smaller", () => {
  const all = [volume("a", [], 1), volume("b", [], 2), volume("c", [], 3)];
  expect(growing(all, 2).map((one) => one.name)).toEqual(["a"]);
});

test("a limit that was left empty stays, and 0 takes one away", () => {
  expect(changesOf("", null)).toEqual({});
  expect(changesOf(0, null)).toEqual({ iops_limit: 0 });
  expect(changesOf("500", 1024)).toEqual({ iops_limit: 500, bandwidth_limit: 1024 });
});
