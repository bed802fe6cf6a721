import { expect, test } from "vitest";
import { memberName, namesOfGroups, stateOfGroup, wholeGroups } from "./groups-of-snapshots";
import type { GroupSnapshot, Snapshot } from "./types";

const snapshot = (id: number, group: string | null) => ({ id, group }) as Snapshot;
const group = (id: string, ...members: number[]): GroupSnapshot => ({
  id,
  name: `nightly-${id}`,
  created_ms: 1,
  ready: true,
  snapshots: members.map((one) => snapshot(one, id)),
});

test("a group is deleted as one when all of it is chosen, and otherwise its members are", () => {
  const groups = [group("1", 11, 12), group("2", 21, 22)];
  const chosen = [snapshot(12, "1"), snapshot(5, null), snapshot(21, "2"), snapshot(11, "1")];
  const { whole, single } = wholeGroups(chosen, groups);
  expect(whole.map((one) => one.id)).toEqual(["1"]);
  expect(single.map((one) => one.id)).toEqual([5, 21]);
  // One that is being taken has no members yet.
  expect(wholeGroups([snapshot(5, null)], [group("3")]).whole).toEqual([]);
});

test("groups have names, where they are known", () => {
  expect(namesOfGroups([group("7", 1)]).get("7")).toBe("nightly-7");
  expect(namesOfGroups(undefined).size).toBe(0);
});

test("a group says whether it is whole, and its members are named with their volumes", () => {
  expect(stateOfGroup(group("1", 11))).toBe("ready");
  expect(stateOfGroup({ ready: false })).toBe("incomplete");
  expect(memberName({ name: "night", volume: "db", volume_id: 4 })).toBe("db@night");
  expect(memberName({ name: "night", volume: null, volume_id: 4 })).toBe("volume-4@night");
});
