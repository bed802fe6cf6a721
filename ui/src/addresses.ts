// What addresses of pages ask for beside the page; what makes no sense is left out.

type Given = Record<string, unknown>;

function textOf(value: unknown): string | undefined {
  // A router reads `?filter=7` as a number.
  const text = typeof value === "number" ? String(value) : value;
  return typeof text === "string" && text !== "" ? text : undefined;
}

function idOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** The filter of the page's table. */
export function filterSearchOf(given: Given): { filter?: string } {
  const filter = textOf(given.filter);
  return filter === undefined ? {} : { filter };
}

/** Which of the tables of snapshots, and its filter. */
export function snapshotSearchOf(given: Given): { tab?: "groups"; filter?: string } {
  return { ...(given.tab === "groups" ? { tab: "groups" } : {}), ...filterSearchOf(given) };
}

/** A task, which is shown alone with its parts. */
export function taskSearchOf(given: Given): { task?: number } {
  const task = idOf(given.task);
  return task === undefined ? {} : { task };
}

/** An alert, which is opened, or one who is told of them. */
export function alertSearchOf(given: Given): { alert?: number; target?: string } {
  const [alert, target] = [idOf(given.alert), textOf(given.target)];
  return { ...(alert === undefined ? {} : { alert }), ...(target === undefined ? {} : { target }) };
}

export const SETTINGS_TABS = ["account", "users", "tokens", "certificates", "policies", "audit"] as const;
export type SettingsTab = (typeof SETTINGS_TABS)[number];

export function settingsSearchOf(given: Given): { tab?: SettingsTab; filter?: string } {
  const tab = SETTINGS_TABS.find((one) => one === given.tab);
  return { ...(tab === undefined || tab === "account" ? {} : { tab }), ...filterSearchOf(given) };
}
