import { expect, test } from "vitest";
import { type Domain, domainsOf, domainTree, nodesIn, spaceOf } from "./domains";
import type { Node, Store } from "./types";

const node = (id: number): Node => ({ id, name: `node-${id}` }) as Node;
const store = (of: number, domains?: string[]): Store =>
  ({ id: of, node: of, capacity: 100, used: of, domains }) as Store;
const nodes = [1, 2, 3, 4, 5].map(node);

/** A domain as text: `name(domains and nodes)`. */
const drawn = ({ name, domains, nodes }: Domain): string =>
  `${name}(${[...domains.map(drawn), ...nodes.map((one) => one.name)].join(" ")})`;

test("the widest label is outermost, and nodes without labels stand directly", () => {
  const stores = [
    store(1, ["rack-10", "zone-b"]),
    store(2, ["rack-9", "zone-b"]),
    store(3, ["rack-9", "zone-b"]),
    store(4, []),
  ];
  const root = domainTree(nodes, stores);
  expect(drawn(root)).toBe("(zone-b(rack-9(node-2 node-3) rack-10(node-1)) node-4 node-5)");
});

test("a name within another domain is another domain", () => {
  const stores = [store(1, ["rack-1", "zone-a"]), store(2, ["rack-1", "zone-b"]), store(3, ["zone-a"])];
  const root = domainTree(nodes.slice(0, 3), stores);
  expect(drawn(root)).toBe("(zone-a(rack-1(node-1) node-3) zone-b(rack-1(node-2)))");
});

test("an answer without labels is one of no domains", () => {
  expect(drawn(domainTree(nodes, [store(1), store(2)]))).toBe("(node-1 node-2 node-3 node-4 node-5)");
  expect(drawn(domainTree([], []))).toBe("()");
});

test("labels are read from any store that has them", () => {
  const stores = [store(1, []), store(1), store(1, ["rack-7", "zone-b"])];
  expect(domainsOf(node(1), stores)).toEqual(["zone-b", "rack-7"]);
  expect(stores[2]?.domains).toEqual(["rack-7", "zone-b"]);
  expect(domainsOf(node(2), stores)).toEqual([]);
});

test("a domain has what all nodes within it have", () => {
  const stores = [store(1, ["rack-1", "zone-a"]), store(2, ["zone-a"]), store(3), store(2, ["zone-a"])];
  const zone = domainTree(nodes, stores).domains[0];
  const within = zone ? nodesIn(zone) : [];
  expect(within.map((one) => one.id)).toEqual([1, 2]);
  expect(spaceOf(within, stores)).toEqual({ capacity: 300, used: 5 });
  expect(spaceOf([], stores)).toEqual({ capacity: 0, used: 0 });
});
