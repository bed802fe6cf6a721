// What a search finds, by kind, and where each of it is.

import { type Claims, type Found, search } from "./claims";
import { type Word, word } from "./i18n";
import type {
  Alert,
  AlertTarget,
  Container,
  Disk,
  GroupSnapshot,
  Kubernetes,
  Node,
  Snapshot,
  Store,
  Task,
  Token,
  User,
  Volume,
} from "./types";

/** Entries of one kind. */
export const FOUND_MAX = 20;

/** Where something is. */
export type Target =
  | { to: "volume" | "container" | "node" | "kubernetes"; name: string }
  | { to: "claim"; found: Found }
  | { to: "snapshots" | "groups"; filter: string }
  | { to: "task" | "alert"; id: number }
  | { to: "target" | "user" | "token"; name: string }
  | { to: "class"; name: string; cluster: string }
  | { to: "hardware" };

export interface Entry {
  label: string;
  target: Target;
}

export interface Known {
  volumes: Volume[];
  snapshots: Snapshot[];
  groups: GroupSnapshot[];
  containers: Container[];
  nodes: Node[];
  stores: Store[];
  disks: Disk[];
  clusters: Kubernetes[];
  claims: { cluster: string; claims: Claims["claims"] }[];
  tasks: Task[];
  alerts: Alert[];
  targets: AlertTarget[];
  users: User[];
  tokens: Token[];
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
    target: volume === null ? { to: "snapshots", filter: snapshot.name } : { to: "volume", name: volume },
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
  function those<T>(all: T[], entry: (one: T) => Entry): Entry[] {
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
    target: { to: "task", id },
  });
  const alert = ({ id, cause, entity }: Alert): Entry => ({
    label: `${entity}: ${cause}`,
    target: { to: "alert", id },
  });
  const store = (one: Store): Entry => {
    const node = known.nodes.find((other) => other.id === one.node)?.name;
    const target: Target = node === undefined ? { to: "hardware" } : { to: "node", name: node };
    return { label: `store-${one.id}`, target };
  };
  const group = ({ name }: GroupSnapshot): Entry => ({
    label: name,
    target: { to: "groups", filter: name },
  });
  const classes = known.clusters.flatMap((cluster) =>
    cluster.classes.map(({ name }) => ({ name, cluster: cluster.name })),
  );
  const storageClass = ({ name, cluster }: { name: string; cluster: string }): Entry => ({
    label: `${name} (${cluster})`,
    target: { to: "class", name, cluster },
  });
  const by =
    (to: "target" | "user" | "token") =>
    ({ name }: { name: string }): Entry => ({ label: name, target: { to, name } });
  const groups: { group: Word; items: Entry[] }[] = [
    { group: "volumes", items: those(known.volumes, named("volume")) },
    { group: "claims", items: ofClaims(search(wanted, known.claims, known.volumes, FOUND_MAX)) },
    { group: "snapshots", items: those(known.snapshots, ofSnapshot) },
    { group: "groupSnapshots", items: those(known.groups, group) },
    { group: "containers", items: those(known.containers, named("container")) },
    { group: "nodes", items: those(known.nodes, named("node")) },
    { group: "stores", items: those(known.stores, store) },
    { group: "disks", items: those(known.disks, ofDisk) },
    { group: "kubernetes", items: those(known.clusters, named("kubernetes")) },
    { group: "storageClasses", items: those(classes, storageClass) },
    { group: "tasks", items: those(known.tasks, task) },
    { group: "alerts", items: those(known.alerts, alert) },
    { group: "targets", items: those(known.targets, by("target")) },
    { group: "users", items: those(known.users, by("user")) },
    { group: "tokens", items: those(known.tokens, by("token")) },
  ];
  return groups.filter((group) => group.items.length > 0);
}
