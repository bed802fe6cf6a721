// What nodes run with, one row for each setting.

import { bytes } from "./format";
import { type Word, word } from "./i18n";
import type { Setting } from "./types";

/** What the settings are for, by the keys of a node's configuration. */
export const MEANINGS: Record<string, Word> = {
  "space-warning-percent": "policyWarn",
  "space-protect-percent": "policyProtect",
  "repair-delay": "policyRepairDelay",
  "repair-latency-percent": "policyRepairLatency",
  "repair-floor-percent": "policyRepairFloor",
  "scrub-interval": "policyScrubInterval",
  "scrub-rate": "policyScrubRate",
  "collect-interval": "policyCollectInterval",
  "collect-percent": "policyCollectPercent",
  lease: "policyLease",
  suspicion: "policySuspicion",
  patience: "policyPatience",
  "tasks-kept": "policyTasksKept",
  groups: "policyGroups",
  drain: "policyDrain",
  "undrained-max": "policyUndrained",
  "undrained-node-max": "policyUndrainedNode",
  "map-cache": "policyMapCache",
};

const TIMES: [number, Word][] = [
  [86_400_000, "timeDays"],
  [3_600_000, "timeHours"],
  [60_000, "timeMinutes"],
  [1000, "timeSeconds"],
];

/** In the largest unit that divides it. */
function duration(ms: number): string {
  const [unit, name] = TIMES.find(([unit]) => ms > 0 && ms % unit === 0) ?? [1, "timeMillis" as const];
  return word(name, ms / unit);
}

const TIME = "unix-milliseconds";
/** When the certificate ends that a node shows browsers. */
const BROWSER_CERTIFICATE = "tls.certificate";

/** What nodes run with, without times of the calendar, which are no policy. */
export const policiesOf = (settings: Setting[]): Setting[] => settings.filter(({ unit }) => unit !== TIME);

/** The ends of the certificates that nodes show browsers, where those are of another authority. */
export const browserCertificates = (settings: Setting[]): Setting[] =>
  settings.filter(({ key, unit }) => key === BROWSER_CERTIFICATE && unit === TIME);

export function valueText({ value, unit }: Pick<Setting, "value" | "unit">): string {
  switch (unit) {
    case "percent":
      return `${value} %`;
    case "milliseconds":
      return duration(value);
    case "bytes":
      return bytes(value);
    case "bytes-per-second":
      return `${bytes(value)}/s`;
    default:
      return `${value}`;
  }
}

export interface SettingRow {
  key: string;
  /** One where all nodes agree; otherwise each with the nodes that have it. */
  values: { value: string; nodes: string[] }[];
}

/** In the order of MEANINGS; what is not among them follows. */
export function rowsOf(settings: Setting[]): SettingRow[] {
  const rows = new Map<string, SettingRow>();
  for (const setting of settings) {
    const row = rows.get(setting.key) ?? { key: setting.key, values: [] };
    const value = valueText(setting);
    const same = row.values.find((one) => one.value === value);
    if (same) {
      same.nodes.push(setting.node);
    } else {
      row.values.push({ value, nodes: [setting.node] });
    }
    rows.set(setting.key, row);
  }
  const order = Object.keys(MEANINGS);
  const place = ({ key }: SettingRow) => {
    const at = order.indexOf(key);
    return at < 0 ? order.length : at;
  };
  return [...rows.values()].sort((one, other) => place(one) - place(other));
}
