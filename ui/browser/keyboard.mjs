// What the walk does with the keyboard alone.

export async function keyboard(walk) {
  await walk.step("keyboard: arrows go through a table, and Enter opens a row", () => rows(walk));
}

async function rows({ page, visit, heading, accessible }) {
  await visit("Volumes", "Volumes");
  await page.getByLabel("Filter: Volumes").fill("web-root");
  const table = page.getByRole("table", { name: "Volumes" });
  await table.getByRole("link", { name: "web-root", exact: true }).waitFor();
  await table.focus();
  await page.keyboard.press("ArrowDown");
  await table.locator("[role=row]:focus").waitFor();
  await page.keyboard.press("Space");
  await page.getByRole("checkbox", { name: "web-root", exact: true, checked: true }).waitFor();
  await accessible();
  await page.keyboard.press("Enter");
  await heading("web-root");
}
