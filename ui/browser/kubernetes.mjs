// What the walk does on the pages of Kubernetes clusters, and where else their claims are shown.

import { readFileSync } from "node:fs";
import { changed, report } from "./report.mjs";

const claims = ({ page }) => page.getByRole("table", { name: "Claims" });
const claim = (walk, name) => claims(walk).getByRole("row").filter({ hasText: name });

export async function kubernetes(walk) {
  const { step } = walk;
  await step("kubernetes: without a cluster it says how one comes here", () => none(walk));
  await step("kubernetes: a cluster that only labels name appears by itself, and says so", () =>
    labelled(walk),
  );
  await step("kubernetes: what is reported appears by itself", () => reported(walk));
  await step("kubernetes: 10,000 claims scroll", () => many(walk));
  await step("kubernetes: the text of a storage class is made, and what the driver refuses is said", () =>
    classes(walk),
  );
  await step("kubernetes: the claim is in the volume's row, on its page, and found by the search", () =>
    found(walk),
  );
  await step("kubernetes: two volumes become four and two again, on its page and among the volumes", () =>
    twoFourTwo(walk),
  );
  await step("kubernetes: a silent cluster is marked, and what was reported is forgotten", () =>
    forgotten(walk),
  );
}

async function none({ page, visit, accessible, picture }) {
  await visit("Kubernetes", "Kubernetes");
  await page.getByText("No Kubernetes cluster is known yet.").waitFor();
  await page.getByText("--report-claims").waitFor();
  await accessible();
  await picture("kubernetes-none");
}

async function labelled(walk) {
  const { page, ask, heading, button, accessible } = walk;
  await page.getByRole("status", { name: "Live", exact: true }).waitFor();
  await ask("POST", "/volumes", {
    name: "pvc-walk",
    container: "gold",
    size: 2 ** 30,
    labels: {
      "csi.azekura.dev/kubernetes": "prod",
      "csi.storage.k8s.io/pvc/namespace": "shop",
      "csi.storage.k8s.io/pvc/name": "data-db-0",
      "csi.storage.k8s.io/pv/name": "pvc-walk",
    },
  });
  await page.getByRole("link", { name: "prod", exact: true }).click();
  await heading("prod");
  await page.getByText("Nobody reports the claims of this cluster").waitFor();
  await claim(walk, "data-db-0").getByText("from labels").waitFor();
  await claim(walk, "data-db-0").getByRole("link", { name: "pvc-walk" }).waitFor();
  if ((await button("Forget").count()) > 0) {
    throw new Error("to forget is offered where nothing was reported");
  }
  await accessible();
}

async function reported(walk) {
  const { page, ask, button, dialog, closed, accessible, picture } = walk;
  const { id: cluster } = await ask("GET", "/cluster");
  const { id: volume } = await ask("GET", "/volumes/pvc-walk");
  await ask("PUT", "/kubernetes/prod/report", report(`${cluster}-v${volume}`));
  const began = Date.now();
  await claim(walk, "data-db-0").getByText("Bound", { exact: true }).waitFor();
  console.log(`            it is there after ${Date.now() - began} ms`);
  await claim(walk, "data-db-0").getByText("db-0 (Running, worker-2)").waitFor();
  await claim(walk, "data-db-1").getByText("waits for its first pod").waitFor();
  await page.getByText("Nobody reports the claims of this cluster").waitFor({ state: "detached" });
  await accessible();
  await picture("kubernetes-claims");
  await claims(walk).getByRole("link", { name: "data-db-1" }).click();
  await dialog().getByText("it waits for its first pod").waitFor();
  await accessible();
  await page.keyboard.press("Escape");
  await closed();
  const [download] = await Promise.all([page.waitForEvent("download"), button("CSV").click()]);
  const text = readFileSync(await download.path(), "utf8");
  if (!/^Namespace,Name,.*\r\nshop,data-db-[01],fast,/.test(text)) {
    throw new Error(`the file is odd: ${text}`);
  }
}

async function many(walk) {
  const { page, ask } = walk;
  const { items } = await ask("GET", "/kubernetes/prod/claims");
  const [one] = items;
  const name = (at) => `data-${String(at).padStart(5, "0")}`;
  await page.route("**/api/v1/kubernetes/prod/claims*", (route) => {
    const from =
      Number(new URL(route.request().url()).searchParams.get("after")?.split("/")[1]?.slice(5) ?? -1) + 1;
    const page = Array.from({ length: 1000 }, (_, at) => {
      return { ...one, name: name(from + at), key: `shop/${name(from + at)}/u` };
    });
    return route.fulfill({ json: { items: page, next: from < 9000 ? page.at(-1).key : null } });
  });
  await page.reload();
  await page.getByRole("link", { name: "data-00000", exact: true }).waitFor();
  const began = Date.now();
  await claims(walk).evaluate((element) => element.scrollTo(0, element.scrollHeight));
  await page.getByRole("link", { name: "data-09999", exact: true }).waitFor();
  const rows = await claims(walk).getByRole("row").count();
  const took = Date.now() - began;
  console.log(`            the last one is there after ${took} ms, ${rows} rows are drawn`);
  if (rows > 100 || took > 2000) {
    throw new Error(`${rows} rows are drawn, and it took ${took} ms`);
  }
  await page.unroute("**/api/v1/kubernetes/prod/claims*");
  await page.reload();
  await claim(walk, "data-db-1").waitFor();
}

async function classes({ page, choose, button, accessible, picture }) {
  await page.getByRole("tab", { name: "Storage classes" }).click();
  await page.getByRole("table", { name: "Storage classes" }).getByText("replicationFactor=2").waitFor();
  const form = page.getByRole("region", { name: "Make a storage class" });
  await form.getByLabel("Name").fill("fast");
  await form.getByText("There is one of that name").waitFor();
  await form.getByLabel("Name").fill("db-fast");
  await choose(form, "Container", "gold");
  await choose(form, "Copies (RF)", "3");
  await form.getByText("Container gold has 2").waitFor();
  await accessible();
  await choose(form, "Copies (RF)", "2");
  await form.getByLabel("Bytes per second").fill("100Mi");
  await form.getByLabel("Mount options").fill("noatime");
  await accessible();
  await picture("kubernetes-class");
  const [download] = await Promise.all([page.waitForEvent("download"), button("Download").click()]);
  const text = readFileSync(await download.path(), "utf8");
  const parts = [
    "name: db-fast",
    "storageContainer: gold",
    'replicationFactor: "2"',
    'bandwidthLimit: "100Mi"',
  ];
  if (parts.some((part) => !text.includes(part)) || download.suggestedFilename() !== "db-fast.yaml") {
    throw new Error(`the file is odd: ${text}`);
  }
}

async function found({ page, visit, heading, dialog, closed, accessible, picture }) {
  await visit("Volumes", "Volumes");
  const row = page.getByRole("row").filter({ hasText: "pvc-walk" });
  await row.getByRole("link", { name: "shop/data-db-0" }).waitFor();
  await row.getByRole("link", { name: "pvc-walk", exact: true }).click();
  await heading("pvc-walk");
  const panel = page.getByRole("region", { name: "Claim" });
  await panel.getByText("db-0 (Running, worker-2)").waitFor();
  await accessible();
  await picture("volume-claim");
  // Nobody has made a volume for this one.
  await page.getByRole("combobox", { name: /^Search/ }).fill("shop/data-db-1");
  await page.getByRole("option", { name: "shop/data-db-1", exact: true }).waitFor();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await heading("prod");
  await dialog().getByText("it waits for its first pod").waitFor();
  await page.keyboard.press("Escape");
  await closed();
}

/** As somebody else would: makes volumes with their claims, or takes them away. */
async function turn({ ask }, made, gone) {
  const { id: cluster } = await ask("GET", "/cluster");
  const volumes = [];
  for (const number of made) {
    const { id } = await ask("POST", "/volumes", {
      name: `stage-${number}`,
      container: "gold",
      size: 2 ** 30,
      labels: {
        "csi.azekura.dev/kubernetes": "stage",
        "csi.storage.k8s.io/pvc/namespace": "stage",
        "csi.storage.k8s.io/pvc/name": `data-${number}`,
        "csi.storage.k8s.io/pv/name": `stage-${number}`,
      },
    });
    volumes.push([number, `${cluster}-v${id}`]);
  }
  for (const number of gone) {
    await ask("DELETE", `/volumes/stage-${number}`);
  }
  await ask("PUT", "/kubernetes/stage/report", changed(volumes, gone));
}

/** Two tabs, neither of which is loaded again: the cluster's page, and the volumes. */
async function twoFourTwo(walk) {
  const { page, ask, visit, heading } = walk;
  const other = await page.context().newPage();
  /** The titles of a table are a row of it. */
  const rows = (tab, name, count) =>
    tab.locator(`[role="table"][aria-label="${name}"][aria-rowcount="${count + 1}"]`).waitFor();
  const both = async (count) => {
    await rows(page, "Claims", count);
    await rows(other, "Volumes", count);
    for (const name of ["data-1", "data-2", "data-3", "data-4"].slice(0, count)) {
      await claim(walk, name).getByText("Bound", { exact: true }).waitFor();
    }
  };
  try {
    await turn(walk, [1, 2], []);
    await visit("Kubernetes", "Kubernetes");
    await page.getByRole("link", { name: "stage", exact: true }).click();
    await heading("stage");
    await other.goto(new URL("/volumes", page.url()).href);
    await other.getByLabel("Filter: Volumes").fill("stage/data-");
    for (const tab of [page, other]) {
      await tab.evaluate(() => {
        globalThis.loadedOnce = true;
      });
    }
    await both(2);
    await turn(walk, [3, 4], []);
    await both(4);
    await turn(walk, [], [3, 4]);
    await both(2);
    for (const tab of [page, other]) {
      if (!(await tab.evaluate(() => globalThis.loadedOnce))) {
        throw new Error("a page was loaded again meanwhile");
      }
    }
  } finally {
    await other.close();
  }
  await turn(walk, [], [1, 2]);
  await rows(page, "Claims", 0);
  await ask("DELETE", "/kubernetes/stage");
  // What follows is about the other one.
  await visit("Kubernetes", "Kubernetes");
  await page.getByRole("link", { name: "stage", exact: true }).waitFor({ state: "detached" });
  await page.getByRole("link", { name: "prod", exact: true }).click();
  await heading("prod");
}

async function forgotten({ page, ask, visit, button, dialog, closed, accessible, picture }) {
  const list = await ask("GET", "/kubernetes");
  const silent = { items: list.items.map((one) => ({ ...one, silent: true })) };
  await page.route("**/api/v1/kubernetes", (route) => route.fulfill({ json: silent }));
  await page.reload();
  await page.getByText("Nothing was reported since").waitFor();
  await accessible();
  await visit("Kubernetes", "Kubernetes");
  await page.getByText("silent", { exact: true }).waitFor();
  await accessible();
  await picture("kubernetes");
  await page.unroute("**/api/v1/kubernetes");
  await page.reload();
  await page.getByText("silent", { exact: true }).waitFor({ state: "detached" });
  await button("Forget: prod").click();
  await accessible();
  await dialog().getByRole("button", { name: "Forget" }).click();
  await closed();
  // Its volume is still there, and names it.
  await page.getByRole("row").filter({ hasText: "prod" }).getByText("v1.35.2").waitFor({ state: "detached" });
  await page.getByRole("link", { name: "prod", exact: true }).waitFor();
}
