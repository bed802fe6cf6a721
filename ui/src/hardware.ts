// Nodes and disks as rows of tables, and what is asked about them.

import { domainsOf, spaceOf } from "./domains";
import { percent } from "./format";
import type { Busiest, Disk, Node, Store } from "./types";

export const VIEWS = ["diagram", "nodes", "stores", "disks", "placement"] as const;
export type View = (typeof VIEWS)[number];

/** What an address asks of the page; what makes no sense is left out, and so is what is shown anyway. */
export function hardwareSearchOf(given: Record<string, unknown>): { view?: Exclude<View, "diagram"> } {
  const view = VIEWS.find((one) => one === given.view);
  return view === undefined || view === "diagram" ? {} : { view };
}

export type NodeState = "alive" | "away" | "draining" | "maintenance";

/** A node or a store that may be away for a while. Older nodes do not say it of stores. */
export const isExcused = (one: { maintenance_until_ms?: number }, nowMs: number): boolean =>
  (one.maintenance_until_ms ?? 0) > nowMs;

export function statesOf(node: Node, nowMs: number): NodeState[] {
  return [
    node.alive ? "alive" : "away",
    ...(node.draining ? (["draining"] as const) : []),
    ...(isExcused(node, nowMs) ? (["maintenance"] as const) : []),
  ];
}

/** A node with what its stores and its figures tell of it. */
export interface NodeRow extends Node {
  /** Widest first. */
  domains: string[];
  stores: number[];
  capacity: number;
  used: number;
  /** Volumes that it serves; nothing while nobody knows. */
  volumes: number | null;
}

export function nodeRows(nodes: Node[], stores: Store[], busiest: Busiest | undefined): NodeRow[] {
  return nodes.map((node) => ({
    ...node,
    domains: domainsOf(node, stores),
    stores: stores.filter((store) => store.node === node.id).map((store) => store.id),
    ...spaceOf([node], stores),
    volumes: busiest?.nodes.find((one) => one.id === node.id)?.volumes ?? null,
  }));
}

/** Hundredths that are used, to the tenth; nothing while there is nothing to use. */
export function fillOf({ capacity, used }: { capacity: number; used: number }): number | null {
  return capacity > 0 ? Math.round(percent(used, capacity) * 10) / 10 : null;
}

/** The disks of each store. */
export function disksByStore(disks: Disk[]): Map<number, Disk[]> {
  const found = new Map<number, Disk[]>();
  for (const disk of disks) {
    found.set(disk.store, [...(found.get(disk.store) ?? []), disk]);
  }
  return found;
}

/** As the command line names it. Of a node that does not answer only the store is known. */
export function diskName(disk: Disk): string {
  return disk.path === "" ? `store-${disk.store}` : `${disk.node}:${disk.path}`;
}

/** The lines of a text that say something. */
export function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}
