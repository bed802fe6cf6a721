// What the walk does with a volume that has ended the processes of its owners, as the catalog says.

/** Six ends: four minutes. */
const ENDS = 6;

export async function quarantine(walk) {
  await walk.step("a volume in quarantine is told everywhere by itself, and released with a click", () =>
    released(walk),
  );
}

async function released({ page, ask, put, visit, heading, button, dialog, closed, accessible, picture }) {
  const { id } = await ask("POST", "/volumes", { name: "shut-out", container: "gold", size: 2 ** 30 });
  await visit("Volumes", "Volumes");
  const row = page.getByRole("row").filter({ hasText: "shut-out" });
  await row.getByText("ready", { exact: true }).waitFor();
  await put("opening", id, { volume: id, attempts: ENDS, at_ms: Date.now() });
  await row.getByText("quarantine", { exact: true }).waitFor();
  await accessible();
  await visit("Home", "Home");
  const told = page.getByRole("region", { name: "Volumes in quarantine", exact: true });
  await told.getByText(/^until /).waitFor();
  await accessible();
  await picture("home-quarantine");
  await told.getByRole("link", { name: "shut-out", exact: true }).click();
  await heading("shut-out");
  await page.getByText("quarantine", { exact: true }).first().waitFor();
  await button("Release").click();
  await dialog().getByText("Release it when the cause is gone", { exact: false }).waitFor();
  await accessible();
  await dialog().getByRole("button", { name: "Release" }).click();
  await closed();
  await page.getByText("ready", { exact: true }).first().waitFor();
  await button("Release").waitFor({ state: "detached" });
  await visit("Home", "Home");
  await told.waitFor({ state: "detached" });
  await visit("Volumes", "Volumes");
  await row.getByText("ready", { exact: true }).waitFor();
  await ask("DELETE", "/volumes/shut-out");
  await row.waitFor({ state: "detached" });
}
