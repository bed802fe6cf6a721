// What is said of a task: its kind, its state, its unit, who asked for it.

import { type Word, word } from "./i18n";
import type { Task } from "./types";

export const KINDS: Record<string, Word> = {
  "volume-delete": "taskVolumeDelete",
  "snapshot-delete": "taskSnapshotDelete",
  "group-snapshot-delete": "taskGroupSnapshotDelete",
  "volume-resize": "taskVolumeResize",
  "volume-drain": "taskVolumeDrain",
  "volume-clone": "taskVolumeClone",
  "volume-restore": "taskVolumeRestore",
  "node-drain": "taskNodeDrain",
  "store-drain": "taskStoreDrain",
  "store-remove": "taskStoreRemove",
  "disk-add": "taskDiskAdd",
  "disk-replace": "taskDiskReplace",
  repair: "taskRepair",
  balance: "taskBalance",
  scrub: "taskScrub",
  "store-scrub": "taskStoreScrub",
  upgrade: "taskUpgrade",
  "catalog-move": "taskCatalogMove",
  "authority-rotate": "taskAuthorityRotate",
};

export const STATES: Record<string, Word> = {
  queued: "taskQueued",
  running: "taskRunning",
  succeeded: "taskSucceeded",
  failed: "taskFailed",
  cancelled: "taskCancelled",
};

/** What is counted, but for bytes, which say so themselves. */
export const UNITS: Record<string, Word> = {
  parts: "unitParts",
  groups: "unitGroups",
  records: "unitRecords",
  extents: "unitExtents",
  nodes: "unitNodes",
  moves: "unitMoves",
  steps: "unitSteps",
};

export function kindOf(task: Task): string {
  const known = KINDS[task.kind];
  return known ? word(known) : task.kind;
}

export function stateOf(task: Task): string {
  const known = STATES[task.status];
  return known ? word(known) : task.status;
}

/** With the blank before it. */
export function unitOf({ unit }: Task): string {
  const known = UNITS[unit];
  return unit === "bytes" ? "" : ` ${known ? word(known) : unit}`;
}

export const whoOf = ({ who }: Task): string => (who === "" ? word("taskByItself") : who);
