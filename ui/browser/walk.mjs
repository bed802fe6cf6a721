// A real browser walks every page of a real cluster, as `cargo xtask ui test` starts one.
//
// AZEKURA_URLS        addresses of the nodes' pages, separated by commas
// AZEKURA_USER, AZEKURA_PASSWORD   an administrator
// AZEKURA_CHROMIUM    the browser
// AZEKURA_JOINS       name of a node that waits to be approved
// AZEKURA_ETCD        address of the etcd that has the cluster's catalog
// AZEKURA_LOSE        process id of the last of the nodes: it is killed at the end, and the verdict must tell
// AZEKURA_PICTURES    folder for pictures of the pages; none when absent
//
// Every step also fails when the page logs an error or throws, or when axe finds something that keeps people out.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { bulk } from "./bulk.mjs";
import { rowsOf } from "./catalog.mjs";
import { changes } from "./changes.mjs";
import { hardware } from "./hardware.mjs";
import { home } from "./home.mjs";
import { keyboard } from "./keyboard.mjs";
import { kubernetes } from "./kubernetes.mjs";
import { quarantine } from "./quarantine.mjs";

const environment = process.env;
const urls = (environment.AZEKURA_URLS ?? "").split(",");
const [user, password] = [environment.AZEKURA_USER ?? "", environment.AZEKURA_PASSWORD ?? ""];
const pictures = environment.AZEKURA_PICTURES;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = Number(environment.AZEKURA_PATIENCE_MS ?? 15_000);
/** A node's lease and the time until it is suspected fit in it several times. */
const LOSS_MS_MAX = 10_000;
/** A node must be away for 4 seconds before that is an alert, and the leader looks every two. */
const ALERT_MS_MAX = 20_000;

const browser = await chromium.launch({
  executablePath: environment.AZEKURA_CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const context = await browser.newContext({
  viewport: { width: 1360, height: 850 },
  locale: "en-GB",
  reducedMotion: "reduce",
  // The cluster's own authority, which no browser knows.
  ignoreHTTPSErrors: true,
});
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);

/** What the page complained of since the last step. */
let complaints = [];
/** Requests that a step expects to be refused. */
let expected = [];
/** A page reads the volume that the stream told of; it may be deleted before it is read, which the page expects (`live.ts`). */
const GONE_MEANWHILE = /\/api\/v1\/volumes\/volume-\d+$/;
page.on("console", (message) => {
  const { url } = message.location();
  const gone = GONE_MEANWHILE.test(url) && message.text().includes("404");
  const known = gone || expected.some((part) => url.includes(part) || message.text().includes(part));
  if (message.type() === "error" && !known) {
    complaints.push(`console: ${message.text()} (${message.location().url})`);
  }
});
page.on("pageerror", (error) => complaints.push(`thrown: ${error.message}`));

let passed = 0;
let failed = 0;

async function step(name, act, expecting = []) {
  complaints = [];
  expected = expecting;
  const began = Date.now();
  try {
    await act();
    if (complaints.length > 0) {
      throw new Error(complaints.join("\n      "));
    }
    passed += 1;
    console.log(`    ok      ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`    FAILED  ${name}: ${error instanceof Error ? error.message : error}`);
    await picture(`failed-${failed}`);
    // A dialog that is left open would have every later step fail, too.
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
  }
}

async function picture(name) {
  if (pictures) {
    mkdirSync(pictures, { recursive: true });
    // What was done a moment ago is shown in a corner for some seconds: not a part of the page.
    const style = ".mantine-Notifications-root { display: none }";
    await page.screenshot({ path: join(pictures, `${name}.png`), style });
  }
}

/**
 * Nothing keeps people out: WCAG 2.1 A and AA as far as a program can tell. What was done a moment ago fades away in a corner,
 * and is looked at once, when it is new.
 */
async function accessible(without = [".mantine-Notification-root"]) {
  // What fades in or out is half transparent, and its colours are not what they will be: what stays is what counts.
  let found = [];
  for (let tries = 0; tries < 4; tries += 1) {
    await page.waitForTimeout(400 * (1 + tries));
    found = await violations(without);
    if (found.length === 0) {
      return;
    }
  }
  throw new Error(`not accessible:\n      ${found.join("\n      ")}`);
}

/** What axe has against the page as it is now. */
async function violations(without) {
  await page.evaluate(() => {
    const ends = (one) => Number.isFinite(one.effect?.getComputedTiming().endTime);
    const over = document.getAnimations().filter(ends);
    const all = Promise.all(over.map((one) => one.finished.catch(() => undefined)));
    return Promise.race([all, new Promise((later) => setTimeout(later, 3000))]).then(() => undefined);
  });
  await page.evaluate(axe);
  return page.evaluate(async (without) => {
    const rules = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] };
    const { violations } = await globalThis.axe.run({ include: ["html"], exclude: without }, rules);
    return violations.map((one) => {
      const where = one.nodes
        .slice(0, 3)
        .map((node) => `${node.target.join(" ")}: ${node.failureSummary ?? ""}`);
      return `${one.id}: ${where.join("; ")}`;
    });
  }, without);
}

const heading = (name) => page.getByRole("heading", { level: 1, name }).waitFor();
const button = (name) => page.getByRole("button", { name, exact: true });
const dialog = () => page.getByRole("dialog");
const closed = () => dialog().waitFor({ state: "detached" });

async function visit(link, title) {
  await page.getByRole("navigation").getByRole("link", { name: link, exact: true }).click();
  await heading(title);
}

async function choose(within, label, option) {
  await within.getByRole("combobox", { name: label }).click();
  await page.getByRole("option", { name: option, exact: true }).click();
}

await step("a stranger sees the log-in and nothing else", async () => {
  await page.goto(urls[0]);
  await heading("Azekura");
  await accessible();
  await picture("login");
});

await step("a wrong password is refused", async () => {
  await page.getByLabel("User").fill(user);
  await page.getByLabel("Password").first().fill("not the password");
  await button("Log in").click();
  await page.getByRole("alert").filter({ hasText: "password is wrong" }).waitFor();
}, ["/api/v1/session"]);

await step("the right one opens the home page", async () => {
  await page.getByLabel("Password").first().fill(password);
  await button("Log in").click();
  await heading("Home");
  await page.reload();
  const began = Date.now();
  await page.goto(urls[0]);
  await page.getByText("Resilient limit").waitFor();
  const took = Date.now() - began;
  console.log(`            the home page is there after ${took} ms`);
});

await step("a container is made", async () => {
  await visit("Containers", "Containers");
  await button("Create container").click();
  await dialog().getByLabel("Name").fill("gold");
  await dialog().getByRole("button", { name: "Create" }).click();
  await closed();
  await page.getByRole("link", { name: "gold", exact: true }).waitFor();
  await accessible([]);
});

await step("containers are deleted several at once", async () => {
  for (const name of ["spare-1", "spare-2"]) {
    await button("Create container").click();
    await dialog().getByLabel("Name").fill(name);
    await dialog().getByRole("button", { name: "Create" }).click();
    await closed();
    await page.getByRole("checkbox", { name, exact: true }).check();
  }
  await page.getByRole("button", { name: "Delete", exact: true }).first().click();
  await dialog().getByText("spare-1, spare-2", { exact: true }).waitFor();
  await dialog().getByRole("button", { name: "Delete", exact: true }).click();
  await closed();
  await page.getByRole("link", { name: "spare-1", exact: true }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "spare-2", exact: true }).waitFor({ state: "detached" });
});

for (const [name, size] of [
  ["orders-db", "20 GiB"],
  ["web-root", "8 GiB"],
  ["scratch", "1 GiB"],
]) {
  await step(`volume ${name} is made`, async () => {
    await visit("Volumes", "Volumes");
    await button("Create volume").click();
    await dialog().getByLabel("Name").fill(name);
    await choose(dialog(), "Container", "gold");
    await dialog().getByLabel("Size").fill(size);
    if (name === "orders-db") {
      await accessible();
      await picture("create-volume");
    }
    await dialog().getByRole("button", { name: "Create" }).click();
    await closed();
    await page.getByRole("link", { name, exact: true }).waitFor();
  });
}

await step("what cannot be done says why, and the dialog stays", async () => {
  await button("Create volume").click();
  await dialog().getByLabel("Name").fill("orders-db");
  await choose(dialog(), "Container", "gold");
  await dialog().getByLabel("Size").fill("a lot");
  await dialog().getByRole("button", { name: "Create" }).click();
  await dialog().getByRole("alert").filter({ hasText: "Not a size" }).waitFor();
  await dialog().getByLabel("Size").fill("1 GiB");
  expected = ["409", "/api/v1/volumes"];
  await dialog().getByRole("button", { name: "Create" }).click();
  await dialog().getByRole("alert").filter({ hasText: "already exists" }).waitFor();
  await page.keyboard.press("Escape");
  await closed();
});

await step("a volume is snapshotted, cloned, resized and described", async () => {
  await page.getByRole("link", { name: "orders-db", exact: true }).click();
  await heading("orders-db");
  await button("Take snapshot").click();
  await dialog().getByLabel("Name").fill("before-upgrade");
  await dialog().getByRole("button", { name: "Take snapshot" }).click();
  await closed();
  await page.getByText("before-upgrade").waitFor();
  await page
    .getByRole("region", { name: "Snapshots and clones" })
    .getByRole("button", { name: "Clone" })
    .click();
  await dialog().getByLabel("Name").fill("orders-test");
  await dialog().getByRole("button", { name: "Create" }).click();
  await closed();
  await page.getByRole("link", { name: "orders-test" }).waitFor();
  await button("Resize").click();
  await dialog().getByLabel("New size").fill("24 GiB");
  await dialog().getByRole("button", { name: "Resize" }).click();
  await closed();
  await page.getByText("24.0 GiB").first().waitFor();
  await button("Edit").click();
  await dialog().getByLabel("Description").fill("Orders of the shop");
  await dialog().getByLabel("Operations per second").fill("5000");
  await dialog().getByRole("button", { name: "Save" }).click();
  await closed();
  await page.getByText("Orders of the shop").waitFor();
  await ask("POST", "/volumes/orders-db/attach", { client: "shop-1" });
  await page.getByText(/^shop-1 \(Sessions: 0; /).waitFor();
  await ask("POST", "/volumes/orders-db/detach", { client: "shop-1" });
  await accessible();
  await picture("volume");
});

await step("a volume that somebody else makes appears by itself", async () => {
  await visit("Volumes", "Volumes");
  await page.getByRole("link", { name: "orders-test" }).waitFor();
  await page.getByRole("status", { name: "Live", exact: true }).waitFor();
  const made = await context.request.post(`${urls[1]}/api/v1/volumes`, {
    headers: { "content-type": "application/json", "x-azekura-request": "1" },
    data: { name: "from-elsewhere", container: "gold", size: 1 << 30 },
  });
  if (!made.ok()) {
    throw new Error(`the volume was not made: ${await made.text()}`);
  }
  const began = Date.now();
  await page.getByRole("link", { name: "from-elsewhere" }).waitFor();
  console.log(`            it is there after ${Date.now() - began} ms`);
});

await step("rows are filtered, sorted, exported and deleted", async () => {
  await page.getByLabel("Filter: Volumes").fill("orders");
  await page.getByText("2 of 5").waitFor();
  await button("Size").click();
  const [download] = await Promise.all([page.waitForEvent("download"), button("CSV").click()]);
  const text = readFileSync(await download.path(), "utf8");
  if (!/^Name,.*\r\norders-test,gold,/.test(text)) {
    throw new Error(`the file is odd: ${text}`);
  }
  await page.getByLabel("Filter: Volumes").fill("");
  await accessible();
  await picture("volumes");
  for (const name of ["scratch", "from-elsewhere"]) {
    await page.getByRole("checkbox", { name, exact: true }).check();
  }
  await button("Delete").click();
  await dialog()
    .getByText(/stores get back/)
    .waitFor();
  await accessible();
  await dialog().getByRole("button", { name: "Delete" }).click();
  await closed();
  await page.getByRole("link", { name: "scratch" }).waitFor({ state: "detached" });
});

await step("10,000 volumes scroll", async () => {
  const [one] = await (await context.request.get(`${urls[0]}/api/v1/volumes`)).json();
  const many = Array.from({ length: 10_000 }, (_, at) => ({ ...one, id: at + 1, name: `pvc-${at}` }));
  await page.route("**/api/v1/volumes", (route) => route.fulfill({ json: many }));
  await page.reload();
  await page.getByRole("link", { name: "pvc-0", exact: true }).waitFor();
  const table = page.getByRole("table", { name: "Volumes" });
  const began = Date.now();
  await table.evaluate((element) => element.scrollTo(0, element.scrollHeight));
  await page.getByRole("link", { name: "pvc-9999", exact: true }).waitFor();
  const rows = await table.getByRole("row").count();
  const took = Date.now() - began;
  console.log(`            the last one is there after ${took} ms, ${rows} rows are drawn`);
  if (rows > 100 || took > 2000) {
    throw new Error(`${rows} rows are drawn, and it took ${took} ms`);
  }
  await page.unroute("**/api/v1/volumes");
  await page.reload();
  await page.getByRole("link", { name: "orders-db", exact: true }).waitFor();
});

await step("the search finds by name and the keyboard opens", async () => {
  await page.getByRole("combobox", { name: /^Search/ }).fill("web");
  await page.getByRole("option", { name: "web-root", exact: true }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await heading("web-root");
});

/** Asks the second node's API, as somebody else would. */
async function ask(method, where, data) {
  const answer = await context.request.fetch(`${urls[1]}/api/v1${where}`, {
    method,
    headers: { "content-type": "application/json", "x-azekura-request": "1" },
    data,
  });
  if (!answer.ok()) {
    throw new Error(`${method} ${where}: ${await answer.text()}`);
  }
  return answer.json();
}

const put = rowsOf(environment.AZEKURA_ETCD);
const walk = { page, ask, put, step, visit, choose, heading, button, dialog, closed, accessible, picture };
await kubernetes(walk);

await step("snapshots", async () => {
  await visit("Snapshots", "Snapshots");
  await page.getByRole("cell", { name: "before-upgrade", exact: true }).waitFor();
  await accessible();
  await picture("snapshots");
});

await bulk(walk);
await quarantine(walk);

await step("space: the sums, and what a volume has of it", async () => {
  await visit("Space", "Space");
  await page.getByText("Kept for repair").waitFor();
  await page.getByRole("columnheader", { name: "Freed when deleted" }).waitFor();
  await accessible();
  await picture("space");
});

await step("tasks: the deletions are there, with who asked for them", async () => {
  await visit("Tasks", "Tasks");
  const told = page.getByText("volume/scratch").first();
  await told.waitFor();
  await page.getByText(`user ${user}`).first().waitFor();
  await accessible();
  await picture("tasks");
});

await step("alerts: nothing is wrong, and nobody is told", async () => {
  await visit("Alerts", "Alerts");
  await page.getByText("Nobody is told of alerts").waitFor();
  await choose(page, "State", "All");
  await button("Add a target").click();
  await choose(dialog(), "Kind", "mail");
  await dialog().getByLabel("Mail server").waitFor();
  await choose(dialog(), "Kind", "webhook");
  await dialog().getByLabel("Name").fill("pager");
  await dialog().getByLabel("URL").fill("not an address");
  await dialog().getByRole("button", { name: "Create" }).click();
  await dialog().getByRole("alert").waitFor();
  await accessible();
  await dialog().getByLabel("URL").fill("http://127.0.0.1:9/");
  await dialog().getByRole("button", { name: "Create" }).click();
  await closed();
  const target = page.getByRole("row").filter({ hasText: "pager" });
  await accessible();
  await target.getByRole("button", { name: "Delete" }).click();
  await dialog().getByRole("button", { name: "Delete" }).click();
  await closed();
  await target.waitFor({ state: "detached" });
}, ["/api/v1/alert-targets"]);

await step("logs: what became of a deleted volume is one search", async () => {
  await visit("Logs", "Logs");
  await page.getByLabel("Volume", { exact: true }).fill("scratch");
  await button("Search").click();
  await page.getByText("deleted; its space comes back with the next collections").first().waitFor();
  await page.getByText("operation done").first().waitFor();
  await accessible();
  await picture("logs");
});

await step("logs: lines come by themselves, from every node", async () => {
  await visit("Logs", "Logs");
  await page.getByText("operation done").first().waitFor();
  await ask("POST", "/volumes", { name: "followed", container: "gold", size: 1 << 30 });
  await page
    .getByText(/volume=followed/)
    .first()
    .waitFor();
  await page.getByLabel("Show new lines as they come").uncheck();
  await ask("DELETE", "/volumes/followed");
});

await step("events: what happened is there", async () => {
  await visit("Events", "Events");
  await page.getByRole("heading", { name: "Events" }).waitFor();
  await accessible();
  await picture("events");
});

await keyboard(walk);
await hardware(walk);
await home(walk);

await step("settings: a user is made, looks, and is deleted", async () => {
  await visit("Settings", "Settings");
  await page.getByRole("tab", { name: "Users" }).click();
  await button("Create user").click();
  await dialog().getByLabel("Name").fill("vera");
  await dialog().getByLabel("Password").first().fill("a long password");
  await dialog().getByRole("button", { name: "Create" }).click();
  await closed();
  const users = page.getByRole("table", { name: "Users", exact: true });
  await users.getByRole("cell", { name: "vera" }).waitFor();
  await accessible();
  const other = await browser.newContext({ ignoreHTTPSErrors: true });
  const viewer = await other.newPage();
  await viewer.goto(`${urls[1]}/volumes`);
  await viewer.getByLabel("User").fill("vera");
  await viewer.getByLabel("Password").first().fill("a long password");
  await viewer.getByRole("button", { name: "Log in" }).click();
  await viewer.getByRole("link", { name: "orders-db", exact: true }).waitFor();
  if ((await viewer.getByRole("button", { name: "Create volume" }).count()) > 0) {
    throw new Error("a viewer is offered to create volumes");
  }
  // A viewer makes a token of her own, which goes with her.
  await viewer.goto(`${urls[1]}/settings`);
  await viewer.getByRole("tab", { name: "My tokens" }).click();
  await viewer.getByRole("button", { name: "Create token" }).click();
  const form = viewer.getByRole("dialog");
  await form.getByLabel("Name").fill("veras");
  await form.getByRole("button", { name: "Create" }).click();
  await viewer.getByText(/^azk_[0-9a-f]{64}$/).waitFor();
  await viewer.getByRole("table", { name: "Tokens", exact: true }).getByText("veras").waitFor();
  // The administrator ends the session: the viewer is a stranger again, with the next request.
  const sessions = page.getByRole("table", { name: "Sessions", exact: true });
  const session = sessions.getByRole("row").filter({ hasText: "vera" });
  await session.getByRole("button", { name: /^End: vera / }).click();
  await dialog().getByText("Whoever uses it must log in again.").waitFor();
  await accessible();
  await dialog().getByRole("button", { name: "End", exact: true }).click();
  await closed();
  await session.waitFor({ state: "detached" });
  await viewer.reload();
  await viewer.getByRole("button", { name: "Log in" }).waitFor();
  await other.close();
  const row = users.getByRole("row").filter({ hasText: "vera" });
  await row.getByRole("button", { name: "Delete" }).click();
  await dialog().getByRole("button", { name: "Delete" }).click();
  await closed();
  await users.getByRole("cell", { name: "vera" }).waitFor({ state: "detached" });
});

await step("settings: tokens, certificates, audit log", async () => {
  await page.getByRole("tab", { name: "Tokens" }).click();
  await button("Create token").click();
  await dialog().getByLabel("Name").fill("grafana");
  await dialog().getByRole("button", { name: "Create" }).click();
  await closed();
  await page.getByText(/^azk_[0-9a-f]{64}$/).waitFor();
  await accessible();
  const row = page.getByRole("row").filter({ hasText: "grafana" });
  await row.getByRole("button", { name: "Delete" }).click();
  await dialog().getByRole("button", { name: "Delete" }).click();
  await closed();
  await button("Create token").click();
  await dialog().getByLabel("Name").fill("driver");
  await choose(dialog(), "Scope", "csi");
  await dialog().getByRole("combobox", { name: "Kubernetes clusters" }).fill("staging");
  await page.keyboard.press("Enter");
  await accessible();
  // The list of known ones lies above the button as long as one is in the field.
  await page.keyboard.press("Tab");
  await dialog().getByRole("button", { name: "Create" }).click();
  await closed();
  await page.getByRole("row").filter({ hasText: "driver" }).getByRole("cell", { name: "staging" }).waitFor();
  await visit("Home", "Home");
  await page.getByRole("combobox", { name: /^Search/ }).fill("driver");
  await page.getByRole("option", { name: "driver", exact: true }).click();
  await heading("Settings");
  await page.getByRole("table", { name: "Tokens", exact: true }).getByText("staging").waitFor();
  await page.getByRole("tab", { name: "Certificates" }).click();
  const certificates = page.getByRole("table", { name: "Certificates" });
  await certificates.getByRole("row").filter({ hasText: "node-3" }).waitFor();
  await page.getByText("No node that answers shows browsers a certificate").waitFor();
  await accessible();
  // Asked, and not done: what reaches the cluster after this step has certificates of this authority.
  await button("Rotate authority").click();
  await dialog().getByText("A new authority signs from now on.", { exact: false }).waitFor();
  await accessible();
  await dialog().getByRole("button", { name: "Cancel" }).click();
  await closed();
  await page.getByRole("tab", { name: "Policies" }).click();
  const warns = page.getByRole("table", { name: "Policies" }).getByRole("row");
  await warns.filter({ hasText: "space-warning-percent" }).getByRole("cell", { name: "75 %" }).waitFor();
  await accessible();
  await picture("policies");
  await page.getByRole("tab", { name: "Audit log" }).click();
  await page.getByRole("cell", { name: "token-delete" }).first().waitFor();
  await page
    .getByRole("cell", { name: `user ${user}` })
    .first()
    .waitFor();
  await accessible();
  await picture("audit");
});

await changes(walk);

// One volume is read and written all the while. Figures come every 15 seconds: two of them are needed.
const drawn = (name) => page.getByRole("img", { name }).first().waitFor({ timeout: 60_000 });
const BUSY = /^Operations per second: Read [1-9].*; Write [1-9]/;

await step("what clients do with a volume is drawn, and in its row", async () => {
  await visit("Volumes", "Volumes");
  const row = page.getByRole("row").filter({ hasText: "web-root" });
  await row.getByText(/[1-9].* [KM]?i?B\/s/).waitFor({ timeout: 60_000 });
  await page.getByRole("link", { name: "web-root", exact: true }).click();
  await heading("web-root");
  await drawn(BUSY);
  await drawn(/^Bandwidth: Read [1-9].*\/s/);
  await drawn(/^Latency: Read, median [1-9].*[µm]s/);
  await drawn(/^Space: Mapped [1-9]/);
  await accessible();
  await picture("volume-charts");
  for (const range of ["6 h", "24 h", "7 d", "90 d"]) {
    await page.getByText(range, { exact: true }).click();
    await page.getByRole("radio", { name: range, exact: true, checked: true }).waitFor({ state: "attached" });
    await drawn(/^Operations per second: Read /);
  }
});

await step("charts of a container, a node and its store", async () => {
  await visit("Containers", "Containers");
  await page.getByRole("link", { name: "gold", exact: true }).click();
  await heading("gold");
  await drawn(BUSY);
  for (const range of ["6 h", "1 h"]) {
    await page.getByText(range, { exact: true }).click();
    await page.getByRole("radio", { name: range, exact: true, checked: true }).waitFor({ state: "attached" });
  }
  const inside = page.getByRole("region", { name: "Volumes", exact: true });
  await inside.getByRole("link", { name: "web-root", exact: true }).waitFor();
  await page.getByRole("region", { name: "Used", exact: true }).waitFor();
  await accessible();
  await picture("container");
  await inside.getByRole("link", { name: "web-root", exact: true }).click();
  await heading("web-root");
  await visit("Hardware", "Hardware");
  await page.getByRole("link", { name: "Performance: node-1" }).click();
  await heading("node-1");
  await drawn(/^Processor: of one core [0-9]/);
  await drawn(/^Space: Used [0-9].*; Capacity [1-9]/);
  const store = page.getByRole("region", { name: /^store-/ });
  await store.getByRole("img", { name: /Operations per second/ }).waitFor();
  await store.getByRole("img", { name: /^Space: Used [0-9].*; Capacity [1-9]/ }).waitFor();
  await accessible();
  await picture("node");
});

await step("home draws the cluster and names the busiest volume, by itself", async () => {
  await visit("Home", "Home");
  await drawn(BUSY);
  await drawn(/^Space: Used [0-9].*; Capacity [1-9]/);
  const busiest = page.getByRole("table", { name: "Busiest volumes" });
  await busiest.getByRole("link", { name: "web-root" }).waitFor();
  const asked = page.waitForRequest((request) => request.url().includes("/metrics/query"), {
    timeout: 40_000,
  });
  await asked;
});

await step("home, in the dark and in Japanese", async () => {
  await visit("Home", "Home");
  await page.getByText("Healthy").first().waitFor();
  await accessible();
  await picture("home");
  await button("Details").click();
  await page.getByRole("table", { name: "Data by copies" }).waitFor();
  await accessible();
  await page.keyboard.press("Escape");
  await closed();
  await button("Light or dark").click();
  await accessible();
  await button("日本語").click();
  await heading("ホーム");
  await accessible();
  await picture("home-dark-ja");
  await button("English").click();
  await button("Light or dark").click();
});

await step("the session counts on every node", async () => {
  await page.goto(`${urls[1]}/hardware`);
  await heading("Hardware");
  await page.goto(urls[0]);
  await heading("Home");
});

if (environment.AZEKURA_JOINS) {
  const joins = environment.AZEKURA_JOINS;
  await step("a node that joined is added with a click while clients write", async () => {
    await visit("Hardware", "Hardware");
    const waiting = page.getByRole("region", { name: "Nodes that want to join" });
    await waiting.getByText(joins, { exact: true }).waitFor();
    await accessible();
    await picture("candidate");
    await waiting.getByRole("button", { name: "Approve" }).click();
    await closed();
    const began = Date.now();
    await waiting.waitFor({ state: "detached" });
    await page.getByRole("region", { name: joins }).getByText("store-4").waitFor();
    // Groups move to it, which is a task: it is told here, and among all others.
    const tasks = page.getByRole("region", { name: "Tasks", exact: true });
    await tasks.getByText("Balance").first().waitFor({ timeout: 60_000 });
    await visit("Tasks", "Tasks");
    await page.getByRole("row").filter({ hasText: "balance" }).first().waitFor({ timeout: 60_000 });
    console.log(`            it takes its part after ${Date.now() - began} ms`);
    await visit("Home", "Home");
    await drawn(BUSY);
  });
}

if (environment.AZEKURA_LOSE) {
  await step("the loss of a node shows by itself", async () => {
    await page.getByRole("status", { name: "Live", exact: true }).waitFor();
    process.kill(Number(environment.AZEKURA_LOSE), "SIGKILL");
    const began = Date.now();
    await page.getByText("Not running").waitFor({ timeout: LOSS_MS_MAX });
    const left = LOSS_MS_MAX - (Date.now() - began);
    await page
      .getByText("Healthy")
      .first()
      .waitFor({ state: "detached", timeout: Math.max(1, left) });
    console.log(`            it shows after ${Date.now() - began} ms`);
    await accessible();
    await picture("home-node-lost");
  });
}

if (environment.AZEKURA_LOSE) {
  await step("the loss is an alert, which says what to do and is acknowledged", async () => {
    const counted = page.getByRole("link", { name: /^Alerts: *[1-9][0-9]* critical/ });
    await counted.waitFor({ timeout: ALERT_MS_MAX });
    await counted.click();
    await heading("Alerts");
    const row = page.getByRole("row").filter({ hasText: "node-lost" });
    await row.getByRole("button").click();
    await dialog().getByText("does not hold its lease").waitFor();
    await accessible();
    await page.keyboard.press("Escape");
    await closed();
    await row.getByRole("checkbox").check();
    await button("Acknowledge").click();
    await dialog().getByLabel("Note").fill("known");
    await dialog().getByRole("button", { name: "Acknowledge" }).click();
    await closed();
    await row.getByText("acknowledged").waitFor();
    await accessible();
    await picture("alerts");
  });
}

await step("who logs out is a stranger again", async () => {
  await button(user).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await heading("Azekura");
  const answer = await context.request.get(`${urls[0]}/api/v1/volumes`);
  if (answer.status() !== 401) {
    throw new Error(`the API answers ${answer.status()}`);
  }
  // What the page had asked for when its session ended is refused.
}, ["status of 401"]);

await browser.close();
console.log(`browser: ${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
