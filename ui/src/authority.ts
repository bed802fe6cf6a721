// Where a rotation of the authority is: what its panel says and offers.

import type { Authority } from "./types";

export interface Rotation {
  /** Nobody has begun one; nodes renew; every node has a certificate of the new authority. */
  state: "none" | "renewing" | "renewed";
  /** Nodes that still show a certificate of the old one, in order. */
  behind: string[];
}

export function rotationOf(authority: Authority): Rotation {
  if (authority.believed < 2) {
    return { state: "none", behind: [] };
  }
  const behind = authority.nodes.filter((one) => !one.current).map((one) => one.node);
  return { state: behind.length > 0 ? "renewing" : "renewed", behind: behind.sort() };
}
