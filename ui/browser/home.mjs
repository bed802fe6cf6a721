// What the walk does on Home: the verdict's parts, what fills the stores, what is saved, and the newest events.

export async function home(walk) {
  const { step } = walk;
  await step("home: the verdict is told part by part", () => parts(walk));
  await step("home: what fills the stores, and what is saved by kind", () => space(walk));
  await step("home: an event is there by itself", () => events(walk));
}

async function parts({ page, visit, button, dialog, closed, accessible, picture }) {
  await visit("Home", "Home");
  await button("Details").click();
  const table = dialog().getByRole("table", { name: "Losses by part" });
  for (const name of ["Data", "Room to make copies again", "Catalog"]) {
    await table.getByRole("cell", { name, exact: true }).first().waitFor();
  }
  await accessible();
  await picture("home-parts");
  await page.keyboard.press("Escape");
  await closed();
}

async function space({ page, ask, visit, heading, accessible }) {
  await visit("Home", "Home");
  const MIB = 2 ** 20;
  const known = { lineages: 3, walked: 2, mapped: 250 * MIB, distinct: 200 * MIB, stored: 100 * MIB };
  const report = { ...(await ask("GET", "/space")), ...known };
  const containers = [{ name: "gold", mapped: MIB, snapshots: 0, exclusive: MIB, frees: 77 * MIB }];
  const answer = { ...report, containers, sharing_hundredths: 125, compression_hundredths: 200 };
  let asked = 0;
  await page.route("**/api/v1/space", (route) => {
    asked += 1;
    return route.fulfill({ json: answer });
  });
  await page.reload();
  await heading("Home");
  const reduction = page.getByRole("region", { name: "Data reduction" });
  for (const text of ["1.25 : 1", "2.00 : 1", "2.50 : 1"]) {
    await reduction.getByText(text, { exact: true }).waitFor();
  }
  await reduction.getByText("2 of 3 volumes").waitFor();
  const capacity = page.getByRole("region", { name: "Capacity", exact: true });
  await capacity.getByText("Data, all copies", { exact: true }).waitFor();
  await capacity.getByText("77.0 MiB", { exact: true }).waitFor();
  await accessible();
  // Once more at most: when the next figures come.
  if (asked > 2) {
    throw new Error(`the report was asked for ${asked} times`);
  }
  await page.unroute("**/api/v1/space");
  await page.reload();
  await heading("Home");
  await capacity.getByText("77.0 MiB", { exact: true }).waitFor({ state: "detached" });
}

async function events({ page, ask, visit, heading, accessible }) {
  await visit("Home", "Home");
  await page.getByRole("status", { name: "Live", exact: true }).waitFor();
  const panel = page.getByRole("region", { name: "Recent events" });
  await ask("PATCH", "/nodes/node-2", { maintenance_minutes: 7 });
  await panel.getByRole("row").filter({ hasText: "for 7 minutes" }).waitFor();
  await accessible();
  await ask("PATCH", "/nodes/node-2", { maintenance_minutes: 0 });
  await panel.getByRole("link", { name: "All events" }).click();
  await heading("Events");
}
