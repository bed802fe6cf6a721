import { afterEach, expect, test } from "vitest";
import { setLanguage } from "./i18n";
import { placementText } from "./placement";
import type { PlacementStore } from "./types";

const store = (id: number, rest: Partial<PlacementStore> = {}): PlacementStore => ({
  store: id,
  role: "complete",
  standing: "present",
  leaving: false,
  bytes: null,
  ...rest,
});

afterEach(() => setLanguage("en"));

test("of stores that are as they should be only the number is said", () => {
  expect(placementText([store(3), store(5, { role: "filling" })])).toBe("3, 5 (filling)");
  expect(placementText([store(9, { standing: "away", leaving: true })])).toBe("9 (away, leaving)");
  expect(placementText([])).toBe("");
  setLanguage("ja");
  expect(placementText([store(5, { role: "filling" })])).toBe("5 (書き込み中)");
});
