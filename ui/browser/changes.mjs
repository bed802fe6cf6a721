// What the walk does with the audit log: what a change was, before and after.

export async function changes(walk) {
  await walk.step("settings: a change says what was there before and after it", () => resized(walk));
}

/** The walk has resized this volume from 20 to 24 GiB. */
async function resized({ page, visit, dialog, closed, accessible, picture }) {
  await visit("Settings", "Settings");
  await page.getByRole("tab", { name: "Audit log" }).click();
  await page.getByLabel("Filter: Audit log").fill("volume-resize orders-db");
  const table = page.getByRole("table", { name: "Audit log" });
  await table.getByRole("row").filter({ hasText: "volume-resize" }).first().getByRole("button").click();
  const fields = dialog().getByRole("table", { name: "What became other" });
  await fields.getByText(/^20\.0 GiB/).waitFor();
  await fields.getByText(/^24\.0 GiB/).waitFor();
  await accessible();
  await picture("audit-change");
  await page.keyboard.press("Escape");
  await closed();
}
