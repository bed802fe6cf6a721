// Failure domains: which are around nodes, and what is in them.

import type { Node, Store } from "./types";

/** A failure domain and what is in it, domain or node. The outermost has no name: it is the cluster. */
export interface Domain {
  name: string;
  domains: Domain[];
  nodes: Node[];
}

/** The labels of the failure domains around a node, widest first; none when its stores have none. */
export function domainsOf(node: Node, stores: Store[]): string[] {
  const own = stores.find((store) => store.node === node.id && (store.domains?.length ?? 0) > 0);
  return (own?.domains ?? []).toReversed();
}

/** Nodes within their failure domains, in the order they have; domains by name. */
export function domainTree(nodes: Node[], stores: Store[]): Domain {
  const root: Domain = { name: "", domains: [], nodes: [] };
  for (const node of nodes) {
    let around = root;
    for (const name of domainsOf(node, stores)) {
      let inner = around.domains.find((domain) => domain.name === name);
      if (!inner) {
        inner = { name, domains: [], nodes: [] };
        around.domains.push(inner);
        around.domains.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
      }
      around = inner;
    }
    around.nodes.push(node);
  }
  return root;
}

/** All nodes within a domain, also those in narrower ones. */
export function nodesIn(domain: Domain): Node[] {
  return [...domain.domains.flatMap(nodesIn), ...domain.nodes];
}

export interface Space {
  capacity: number;
  used: number;
}

/** What the stores of nodes have together. */
export function spaceOf(nodes: Node[], stores: Store[]): Space {
  const ids = new Set(nodes.map((node) => node.id));
  const own = stores.filter((store) => ids.has(store.node));
  return {
    capacity: own.reduce((sum, store) => sum + store.capacity, 0),
    used: own.reduce((sum, store) => sum + store.used, 0),
  };
}
