// What the walk does on the page of the hardware: nodes and disks in all views of them.

import { readFileSync } from "node:fs";

const NODES = ["node-1", "node-2", "node-3"];
/** What the walk's cluster has none of: failure domains, narrowest first. */
const DOMAINS = { "node-1": ["rack-1", "zone-a"], "node-2": ["rack-2", "zone-a"] };

export async function hardware(walk) {
  const { step } = walk;
  await step("hardware: a node is excused from being replaced", () => excused(walk));
  await step("hardware: a store is excused by itself, which every view says and ends", () =>
    excusedStore(walk),
  );
  await step("hardware: the diagram has the disks of each store", () => disksOfStores(walk));
  await step("hardware: the disks of all nodes are a table, which is exported", () => disksOf(walk));
  await step("hardware: a light that somebody switches is seen by itself", () => lights(walk));
  await step("hardware: disks are asked for before they are added or replaced", () => dialogs(walk));
  await step("hardware: the nodes are a table, which the address names", () => nodesOf(walk));
  await step("hardware: the stores are a table, which is filtered", () => storesOf(walk));
  await step("hardware: nodes stand in their failure domains", () => domains(walk));
  await step("hardware: a node's page has its disks", () => ownDisks(walk));
}

async function excused({ page, visit, accessible, picture, button, dialog, closed }) {
  await visit("Hardware", "Hardware");
  await page.getByRole("region", { name: "node-3" }).waitFor();
  await page.getByText("store-3").waitFor();
  await accessible();
  await picture("hardware");
  await button("Maintenance: node-2").click();
  await accessible();
  await dialog().getByRole("button", { name: "Maintenance" }).click();
  await closed();
  await button("End maintenance: node-2").click();
  await dialog().getByRole("button", { name: "End maintenance" }).click();
  await closed();
  await button("Maintenance: node-2").waitFor();
}

async function excusedStore(walk) {
  const { page, accessible, button, dialog, closed } = walk;
  const said = page.getByText(/^Maintenance until /);
  await button("Maintenance: store-2").click();
  await dialog().getByRole("button", { name: "Maintenance" }).click();
  await closed();
  await said.waitFor();
  await button("End maintenance: store-2").waitFor();
  // Of its node, and of other stores, nothing else was wanted.
  await button("Maintenance: node-2").waitFor();
  await button("Maintenance: store-1").waitFor();
  await accessible();
  const table = await view(walk, "Stores");
  const row = table.getByRole("row").filter({ hasText: "store-2" });
  await row.getByRole("button", { name: "End maintenance: store-2" }).click();
  await dialog().getByRole("button", { name: "End maintenance" }).click();
  await closed();
  await row.getByRole("button", { name: "Maintenance: store-2", exact: true }).waitFor();
  await page.getByRole("tab", { name: "Diagram", exact: true }).click();
  await button("Maintenance: store-2").waitFor();
  await said.waitFor({ state: "detached" });
}

async function disksOfStores({ page, accessible }) {
  for (const store of ["store-1", "store-2", "store-3"]) {
    const list = page.getByRole("list", { name: `Disks: ${store}`, exact: true });
    await list
      .getByRole("listitem")
      .filter({ hasText: /\/disk-\d+/ })
      .first()
      .waitFor();
    await list.getByText("ready", { exact: true }).first().waitFor();
  }
  await accessible();
}

/** Turns to a view of the page; the table in it. */
async function view({ page, visit }, name) {
  await visit("Hardware", "Hardware");
  await page.getByRole("tab", { name, exact: true }).click();
  const table = page.getByRole("table", { name, exact: true });
  await table.waitFor();
  return table;
}

/** The answer alone says that a disk has a light: a file has none. That it was switched comes from the catalog, as it does from a node. */
async function lights(walk) {
  const { page, put, accessible, picture } = walk;
  let on = false;
  await page.route("**/api/v1/disks", async (route) => {
    const disks = await (await route.fetch()).json();
    const lit = disks.map((disk) => (disk.store === 1 ? { ...disk, light: on } : disk));
    await route.fulfill({ json: lit });
  });
  const table = await view(walk, "Disks");
  const row = rowOf(walk, table, "node-1");
  await row.getByRole("button", { name: /^Locate: / }).waitFor();
  const turn = async (next) => {
    on = next;
    await put("light", 1, { id: 1, on: next ? ["/disk-1"] : [], at_ms: Date.now() });
  };
  await turn(true);
  await row.getByText("Its light is on", { exact: true }).waitFor();
  await row.getByRole("button", { name: /^Stop locating: / }).waitFor();
  await accessible();
  await picture("hardware-light");
  await page.getByRole("tab", { name: "Diagram", exact: true }).click();
  const list = page.getByRole("list", { name: "Disks: store-1", exact: true });
  await list.getByText("Its light is on", { exact: true }).waitFor();
  await turn(false);
  await list.getByText("Its light is on", { exact: true }).waitFor({ state: "detached" });
  await page.unroute("**/api/v1/disks");
  await page.reload();
  await list.waitFor();
}

/** A row about a node. */
function rowOf({ page }, table, name) {
  const link = page.getByRole("link", { name, exact: true });
  return table.getByRole("row").filter({ has: link }).first();
}

async function disksOf(walk) {
  const { page, accessible, picture } = walk;
  const table = await view(walk, "Disks");
  for (const name of NODES) {
    const row = rowOf(walk, table, name);
    await row
      .getByText(/\/disk-\d+$/)
      .first()
      .waitFor();
    await row.getByText("ready", { exact: true }).waitFor();
    // A file has no light.
    const locate = row.getByRole("button", { name: /^Locate: / });
    const [disabled, hint] = [await locate.getAttribute("aria-disabled"), await locate.getAttribute("title")];
    if (disabled !== "true" || !hint?.includes("no light that can be switched")) {
      throw new Error(`a light is offered where there is none: ${disabled}, ${hint}`);
    }
  }
  const csv = page.getByRole("tabpanel").getByRole("button", { name: "CSV", exact: true });
  const [download] = await Promise.all([page.waitForEvent("download"), csv.click()]);
  const text = readFileSync(await download.path(), "utf8");
  if (!/^Node,Store,Path,.*\r\nnode-1,store-1,/.test(text)) {
    throw new Error(`the file is odd: ${text}`);
  }
  await accessible();
  await picture("hardware-disks");
}

async function dialogs(walk) {
  const { page, accessible, button, dialog, closed } = walk;
  const table = await view(walk, "Disks");
  await button("Add disks").click();
  await dialog().getByLabel("Paths, one per line").fill("/dev/nowhere");
  await dialog().getByRole("button", { name: "Add disks" }).click();
  await dialog().getByRole("alert").filter({ hasText: "Choose a node" }).waitFor();
  await accessible();
  await page.keyboard.press("Escape");
  await closed();
  await rowOf(walk, table, "node-1").getByRole("button", { name: "Replace: store-1" }).click();
  await dialog().getByLabel("Give up what has its only copy there").waitFor();
  await accessible();
  await page.keyboard.press("Escape");
  await closed();
  await rowOf(walk, table, "node-1").getByRole("button", { name: "Drain: store-1" }).click();
  await dialog().getByText("Everything moves away from it").waitFor();
  await page.keyboard.press("Escape");
  await closed();
}

async function nodesOf(walk) {
  const { page, accessible, picture } = walk;
  const table = await view(walk, "Nodes");
  for (const name of NODES) {
    await rowOf(walk, table, name).getByText("Running", { exact: true }).waitFor();
  }
  await page.reload();
  await table.waitFor();
  await rowOf(walk, table, "node-1").getByRole("button", { name: "Drain: node-1" }).waitFor();
  await accessible();
  await picture("hardware-nodes");
}

async function storesOf(walk) {
  const { page, accessible, picture } = walk;
  const table = await view(walk, "Stores");
  for (const name of NODES) {
    await rowOf(walk, table, name).waitFor();
  }
  await page.getByLabel("Filter: Stores").fill("node-2");
  await rowOf(walk, table, "node-1").waitFor({ state: "detached" });
  await rowOf(walk, table, "node-2").waitFor();
  await accessible();
  await picture("hardware-stores");
}

async function domains({ page, ask, visit, heading, accessible, picture }) {
  const { nodes } = await ask("GET", "/cluster");
  const names = new Map(nodes.map((node) => [node.id, node.name]));
  const stores = (await ask("GET", "/stores")).map((store) => {
    return { ...store, domains: DOMAINS[names.get(store.node)] ?? [] };
  });
  await page.route("**/api/v1/stores", (route) => route.fulfill({ json: stores }));
  await visit("Hardware", "Hardware");
  await page.reload();
  await heading("Hardware");
  const region = (within, name) => within.getByRole("region", { name, exact: true });
  const zone = region(page, "Failure domain: zone-a");
  await zone.getByText("Nodes: 2").waitFor();
  await region(region(zone, "Failure domain: rack-1"), "node-1").waitFor();
  await region(region(zone, "Failure domain: rack-2"), "node-2").waitFor();
  for (const name of NODES) {
    await region(page, name).waitFor();
  }
  if ((await region(zone, "node-3").count()) > 0) {
    throw new Error("a node stands in a failure domain that is not around it");
  }
  await accessible();
  await picture("hardware-domains");
  await page.unroute("**/api/v1/stores");
  await page.reload();
  await region(page, "node-1").waitFor();
  await zone.waitFor({ state: "detached" });
}

async function ownDisks(walk) {
  const { heading, accessible } = walk;
  const table = await view(walk, "Disks");
  await rowOf(walk, table, "node-1").getByRole("link", { name: "node-1", exact: true }).click();
  await heading("node-1");
  await table.getByText("store-1", { exact: true }).waitFor();
  if ((await table.getByText("store-2", { exact: true }).count()) > 0) {
    throw new Error("a node's page has the disk of another one");
  }
  await accessible();
}
