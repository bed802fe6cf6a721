import { expect, test } from "vitest";
import { alertSearchOf, filterSearchOf, settingsSearchOf, snapshotSearchOf, taskSearchOf } from "./addresses";

test("an address asks for what there may be, and for nothing else", () => {
  expect(filterSearchOf({ filter: "nightly", other: 1 })).toEqual({ filter: "nightly" });
  expect(filterSearchOf({ filter: 7 })).toEqual({ filter: "7" });
  expect(filterSearchOf({ filter: "" })).toEqual({});
  expect(snapshotSearchOf({ tab: "groups", filter: "night" })).toEqual({ tab: "groups", filter: "night" });
  expect(snapshotSearchOf({ tab: "elsewhere" })).toEqual({});
  expect(taskSearchOf({ task: 12 })).toEqual({ task: 12 });
  for (const task of ["12", -1, 1.5, null]) {
    expect(taskSearchOf({ task })).toEqual({});
  }
  expect(alertSearchOf({ alert: 3 })).toEqual({ alert: 3 });
  expect(alertSearchOf({ target: "pager" })).toEqual({ target: "pager" });
  expect(alertSearchOf({ alert: {} })).toEqual({});
  expect(settingsSearchOf({ tab: "users", filter: "ada" })).toEqual({ tab: "users", filter: "ada" });
  expect(settingsSearchOf({ tab: "account" })).toEqual({});
  expect(settingsSearchOf({ tab: "elsewhere" })).toEqual({});
});
