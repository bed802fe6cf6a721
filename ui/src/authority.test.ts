import { expect, test } from "vitest";
import { rotationOf } from "./authority";

const authority = (believed: number, current: Record<string, boolean>) => ({
  signer: "CN=Azekura prod",
  fingerprint: "ab",
  believed,
  nodes: Object.entries(current).map(([node, one]) => ({ node, issuer: "CN", current: one, until_ms: 1 })),
});

test("a rotation goes on until every node has a new certificate, and is over when one authority is left", () => {
  expect(rotationOf(authority(1, { a: true, b: true }))).toEqual({ state: "none", behind: [] });
  expect(rotationOf(authority(2, { c: false, a: false, b: true }))).toEqual({
    state: "renewing",
    behind: ["a", "c"],
  });
  expect(rotationOf(authority(2, { a: true, b: true }))).toEqual({ state: "renewed", behind: [] });
});

test("a node that has shown nothing new is no rotation by itself", () => {
  expect(rotationOf(authority(1, { a: false }))).toEqual({ state: "none", behind: [] });
});
