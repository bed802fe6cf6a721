// What a search finds, by kind, and where each of it is.

import { type Claims, type Found, search } from "./claims";
import { type Word, word } from "./i18n";
import type { Alert, Container, Disk, Kubernetes, Node, Snapshot, Task, Volume } from "./types";

/** Entries of one kind. */
export const FOUND_MAX = 20;

/** Where something is. */
export type Target =
  | { to: "volume" | "container" | "node" | "kubernetes"; name: string }
  | { to: "claim"; found: Found }
  | { to: "snapshots" | "tasks" | "alerts" };

export interface Entry {
  label: string;
  target: Target;
}

export interface Known {
  volumes: Volume[];
  snapshots: Snapshot[];
  containers: Container[];
  nodes: Node[];
  disks: Disk[];
  clusters: Kubernetes[];
  claims: { cluster: string; claims: Claims["claims"] }[];
  tasks: Task[];
  alerts: Alert[];
}

type Named = "volume" | "container" | "node" | "kubernetes";

const named =
  (to: Named) =>
  ({ name }: { name: string }): Entry => ({ label: name, target: { to, name } });

/** On the page of its volume, if that is still there. */
function ofSnapshot(snapshot: Snapshot): Entry {
  const { volume } = snapshot;
  return {
    label: `${volume ?? `volume-${snapshot.volume_id}`}@${snapshot.name}`,
    target: volume === null ? { to: "snapshots" } : { to: "volume", name: volume },
  };
}

function ofDisk(disk: Disk): Entry {
  const what = [disk.model, disk.serial].filter(Boolean).join(" ");
  const where = `${disk.node}:${disk.path}`;
  return { label: what ? `${where} (${what})` : where, target: { to: "node", name: disk.node } };
}

/** Claims by the text to show. Those of several clusters say of which they are. */
function ofClaims(found: Found[]): Entry[] {
  const several = new Set(found.map((one) => one.cluster)).size > 1;
  return found.map((one) => ({
    label: several && one.cluster !== null ? `${one.claim} (${one.cluster})` : one.claim,
    target: { to: "claim", found: one },
  }));
}

/** What has the text in what it is called, at most FOUND_MAX of a kind; kinds without any are left out. */
export function find(text: string, known: Known): { group: Word; items: Entry[] }[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") {
    return [];
  }
  function fit<T>(all: T[], entry: (one: T) => Entry): Entry[] {
    const items: Entry[] = [];
    for (const one of all) {
      const made = entry(one);
      if (made.label.toLowerCase().includes(wanted) && items.push(made) === FOUND_MAX) {
        break;
      }
    }
    return items;
  }
  const task = ({ id, kind, entity }: Task): Entry => ({
    label: word("taskFound", id, kind, entity),
    target: { to: "tasks" },
  });
  const alert = ({ cause, entity }: Alert): Entry => ({
    label: `${entity}: ${cause}`,
    target: { to: "alerts" },
  });
  const groups: { group: Word; items: Entry[] }[] = [
    { group: "volumes", items: fit(known.volumes, named("volume")) },
    { group: "claims", items: ofClaims(search(wanted, known.claims, known.volumes, FOUND_MAX)) },
    { group: "snapshots", items: fit(known.snapshots, ofSnapshot) },
    { group: "containers", items: fit(known.containers, named("container")) },
    { group: "nodes", items: fit(known.nodes, named("node")) },
    { group: "disks", items: fit(known.disks, ofDisk) },
    { group: "kubernetes", items: fit(known.clusters, named("kubernetes")) },
    { group: "tasks", items: fit(known.tasks, task) },
    { group: "alerts", items: fit(known.alerts, alert) },
  ];
  return groups.filter((group) => group.items.length > 0);
}
