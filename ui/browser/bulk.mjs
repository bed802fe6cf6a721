// What the walk does with several rows at once.

export async function bulk(walk) {
  const { step } = walk;
  await step("bulk: limits of several volumes are set", () => limits(walk));
  await step("bulk: clients of chosen volumes are detached", () => detached(walk));
  await step("bulk: several volumes get snapshots of one point in time, which are deleted together", () =>
    group(walk),
  );
}

async function chosen({ page, visit }, names) {
  await visit("Volumes", "Volumes");
  for (const name of names) {
    await page.getByRole("checkbox", { name, exact: true }).check();
  }
}

async function limits(walk) {
  const { ask, button, dialog, closed, accessible } = walk;
  await chosen(walk, ["orders-db", "orders-test"]);
  await button("Set limits").click();
  await accessible();
  await dialog().getByLabel("Operations per second").fill("4000");
  await dialog().getByRole("button", { name: "Save" }).click();
  await closed();
  for (const name of ["orders-db", "orders-test"]) {
    const { iops_limit } = await ask("GET", `/volumes/${name}`);
    if (iops_limit !== 4000) {
      throw new Error(`${name} has the limit ${iops_limit}`);
    }
  }
}

async function detached(walk) {
  const { page, ask, visit, button, dialog, closed, accessible } = walk;
  await visit("Volumes", "Volumes");
  await ask("POST", "/volumes/orders-test/attach", { client: "shop-2" });
  const told = page.getByRole("cell", { name: "shop-2", exact: true });
  await told.waitFor();
  await page.getByRole("checkbox", { name: "orders-test", exact: true }).check();
  await button("Detach").click();
  await dialog().getByText("orders-test (shop-2)").waitFor();
  await accessible();
  await dialog().getByRole("button", { name: "Detach" }).click();
  await closed();
  await told.waitFor({ state: "detached" });
}

async function group(walk) {
  const { page, visit, button, dialog, closed, accessible, picture } = walk;
  await chosen(walk, ["orders-db", "web-root"]);
  await button("Group snapshot").click();
  await dialog().getByLabel("Name").fill("together");
  await accessible();
  await picture("group-snapshot");
  await dialog().getByRole("button", { name: "Group snapshot" }).click();
  await closed();
  await visit("Snapshots", "Snapshots");
  await page.getByLabel("Filter: Snapshots").fill("together");
  const rows = page
    .getByRole("table", { name: "Snapshots" })
    .getByRole("row")
    .filter({ hasText: "together" });
  await rows.getByText("ready", { exact: true }).nth(1).waitFor();
  // The name of the snapshots is that of their group, which the search finds by it.
  await rows.getByRole("cell", { name: "together", exact: true }).nth(3).waitFor();
  await groupsOf(walk);
  await page.getByRole("tab", { name: "Snapshots", exact: true }).click();
  await page.getByLabel("Filter: Snapshots").fill("together");
  await page.getByRole("checkbox", { name: "All", exact: true }).check();
  await button("Delete").click();
  await dialog().getByText("Deleted as a whole, as one task each: together").waitFor();
  await accessible();
  const deleted = page.waitForRequest(
    (request) => request.method() === "DELETE" && request.url().includes("/group-snapshots/"),
  );
  await dialog().getByRole("button", { name: "Delete" }).click();
  await deleted;
  await closed();
  await rows.first().waitFor({ state: "detached" });
}

/** The group is found, and shown with what is in it; one that somebody else takes comes by itself, and is deleted. */
async function groupsOf({ page, ask, visit, heading, button, dialog, closed, accessible, picture }) {
  await visit("Volumes", "Volumes");
  await page.getByRole("combobox", { name: /^Search/ }).fill("together");
  await page.getByRole("option", { name: "together", exact: true }).click();
  await heading("Snapshots");
  const table = page.getByRole("table", { name: "Group snapshots", exact: true });
  const row = (name) => table.getByRole("row").filter({ hasText: name });
  await row("together").getByRole("link", { name: "web-root", exact: true }).waitFor();
  await row("together").getByText("ready", { exact: true }).waitFor();
  const filter = page.getByLabel("Filter: Group snapshots");
  if ((await filter.inputValue()) !== "together") {
    throw new Error("the search does not lead to what it found");
  }
  await row("together").getByRole("button", { name: "together", exact: true }).click();
  const members = dialog().getByRole("table", { name: "Snapshots in it" });
  await members.getByRole("link", { name: "orders-db", exact: true }).waitFor();
  await accessible();
  await page.keyboard.press("Escape");
  await closed();
  await filter.fill("");
  const { id } = await ask("POST", "/group-snapshots", {
    name: "elsewhere",
    volumes: ["orders-db", "web-root"],
  });
  await row("elsewhere").getByText("ready", { exact: true }).waitFor();
  await accessible();
  await picture("group-snapshots");
  await page.getByRole("checkbox", { name: `elsewhere (${id})`, exact: true }).check();
  await button("Delete").click();
  await dialog().getByText("Each goes with all snapshots in it", { exact: false }).waitFor();
  await dialog().getByText("orders-db@elsewhere, web-root@elsewhere", { exact: false }).waitFor();
  await accessible();
  await dialog().getByRole("button", { name: "Delete", exact: true }).click();
  await closed();
  await row("elsewhere").waitFor({ state: "detached" });
  await row("together").waitFor();
}
