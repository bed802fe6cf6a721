// A real browser on a cluster with many volumes, as `cargo xtask bench --manage` starts one. What it measures it prints, one line each:
// `page: NAME`, a tab, and milliseconds separated by spaces.
//
// AZEKURA_URLS, AZEKURA_USER, AZEKURA_PASSWORD, AZEKURA_CHROMIUM   as for walk.mjs
// AZEKURA_LAST        name of the volume that comes last in the table
// AZEKURA_RUNS        how often each page is opened
// AZEKURA_STAY_MS     the home page stays open for so long at the end, after the line `staying`

import { chromium } from "playwright-core";

const environment = process.env;
const url = (environment.AZEKURA_URLS ?? "").split(",")[0];
const last = environment.AZEKURA_LAST ?? "";
const runs = Number(environment.AZEKURA_RUNS ?? 5);
const stay = Number(environment.AZEKURA_STAY_MS ?? 0);
/** Scrolled between two frames, about as fast as a wheel is turned. */
const SCROLL_PIXELS = 400;
/** Frames that are scrolled. */
const FRAMES = 180;

const browser = await chromium.launch({
  executablePath: environment.AZEKURA_CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const context = await browser.newContext({ viewport: { width: 1360, height: 850 }, locale: "en-GB" });
const page = await context.newPage();
page.setDefaultTimeout(60_000);

const tell = (name, times) => console.log(`page: ${name}\t${times.map((one) => one.toFixed(1)).join(" ")}`);

/** Opens a page anew, again and again, until what `ready` waits for is there. */
async function opened(name, path, ready) {
  const times = [];
  for (let turn = 0; turn <= runs; turn += 1) {
    const began = performance.now();
    await page.goto(`${url}${path}`, { waitUntil: "commit" });
    await ready();
    // The first one fills the browser's cache.
    if (turn > 0) {
      times.push(performance.now() - began);
    }
  }
  tell(name, times);
}

await page.goto(url);
await page.getByLabel("User").fill(environment.AZEKURA_USER ?? "");
await page
  .getByLabel("Password")
  .first()
  .fill(environment.AZEKURA_PASSWORD ?? "");
await page.getByRole("button", { name: "Log in", exact: true }).click();
await page.getByText("Resilient limit").waitFor();

await opened("the home page is usable", "/", () => page.getByText("Resilient limit").waitFor());
const table = page.getByRole("table", { name: "Volumes" });
await opened("the table of all volumes is there", "/volumes", () => table.getByRole("row").nth(10).waitFor());
tell(
  "a frame while it is scrolled",
  await table.evaluate(
    (element, [frames, pixels]) =>
      new Promise((done) => {
        const gaps = [];
        let before = performance.now();
        const step = (now) => {
          gaps.push(now - before);
          before = now;
          element.scrollBy(0, pixels);
          gaps.length < frames ? requestAnimationFrame(step) : done(gaps.slice(1));
        };
        requestAnimationFrame(step);
      }),
    [FRAMES, SCROLL_PIXELS],
  ),
);
const filter = page.getByLabel("Filter: Volumes");
const filtered = [];
for (let turn = 0; turn < runs; turn += 1) {
  const began = performance.now();
  await filter.fill(last);
  await page.getByText(/^1 of /).waitFor();
  filtered.push(performance.now() - began);
  await filter.fill("");
  await page.getByText(/^1 of /).waitFor({ state: "detached" });
}
tell("one of them is found by the filter", filtered);
await page.goto(url);
await page.getByText("Resilient limit").waitFor();
console.log("staying");
await page.waitForTimeout(stay);
await browser.close();
