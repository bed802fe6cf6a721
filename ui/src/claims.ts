// Claims of Kubernetes: what labels of a volume tell of them, and what reports do.

import type { Cell } from "./format";
import type { Claim, Volume } from "./types";

const CLUSTER = "csi.azekura.dev/kubernetes";
const NAME = "csi.storage.k8s.io/pvc/name";
const NAMESPACE = "csi.storage.k8s.io/pvc/namespace";
/** 100,000 claims: what a browser can hold, and far more than one looks through. */
const PAGES_MAX = 100;

/** Which claim a volume was made for. The cluster is known where the driver was told its name. */
export interface Origin {
  cluster: string | null;
  namespace: string;
  name: string;
}

export function originOf(labels: Record<string, string>): Origin | null {
  const [namespace, name] = [labels[NAMESPACE], labels[NAME]];
  return namespace && name ? { cluster: labels[CLUSTER] ?? null, namespace, name } : null;
}

/** As people write it. */
export const nameOf = (one: { namespace: string; name: string }): string => `${one.namespace}/${one.name}`;

export interface Claims {
  claims: Claim[];
  /** Whether there are more than were read. */
  more: boolean;
}

/** Where the API has a page of claims. */
export function claimsPath(cluster: string, after: string | null): string {
  const query = after === null ? "" : `?after=${encodeURIComponent(after)}`;
  return `/kubernetes/${encodeURIComponent(cluster)}/claims${query}`;
}

/** Reads page after page. */
export async function readAll(
  page: (after: string | null) => Promise<{ items: Claim[]; next?: string | null }>,
): Promise<Claims> {
  const claims: Claim[] = [];
  let after: string | null = null;
  for (let pages = 0; pages < PAGES_MAX; pages += 1) {
    const { items, next } = await page(after);
    claims.push(...items);
    if (!next || next === after) {
      return { claims, more: false };
    }
    after = next;
  }
  return { claims, more: true };
}

/** Claims that an address names: one by its key, or all of a namespace and name. */
export function named(claims: Claim[], wanted: string): Claim[] {
  return claims.filter((one) => one.key === wanted || nameOf(one) === wanted);
}

/** Why it is not as it should be stands behind what it is. */
export const statusText = (one: Claim): string => (one.reason ? `${one.status}: ${one.reason}` : one.status);

/** Pods with what is known of each, such as `db-0 (Running, worker-2)`. */
export function podTexts(one: Claim): string[] {
  return one.pods.map((pod) => `${pod.name} (${[pod.phase, pod.node].filter(Boolean).join(", ")})`);
}

/** For order and export: nothing where nobody reported. */
export function reportedList(one: Claim, texts: string[], more = 0): Cell {
  if (!one.reported) {
    return null;
  }
  return [...texts, ...(more > 0 ? [`+${more}`] : [])].join("; ");
}

/** Something that a search has found. */
export interface Found {
  cluster: string | null;
  claim: string;
  /** For a claim of a cluster without a name: its volume's page is the only one there is. */
  volume: string | null;
}

/** Claims whose `namespace/name` has a text in it: those reported, and those that labels tell of. */
export function search(
  wanted: string,
  reported: { cluster: string; claims: Claim[] }[],
  volumes: Volume[],
  most: number,
): Found[] {
  const found = new Map<string, Found>();
  const take = (cluster: string | null, claim: string, volume: string | null) => {
    const key = JSON.stringify([cluster, claim]);
    if (found.size < most && claim.toLowerCase().includes(wanted) && !found.has(key)) {
      found.set(key, { cluster, claim, volume });
    }
  };
  for (const { cluster, claims } of reported) {
    for (const one of claims) {
      take(cluster, nameOf(one), null);
    }
  }
  const seen = new Set([...found.values()].map((one) => one.claim));
  for (const volume of volumes) {
    const origin = originOf(volume.labels);
    if (origin && (origin.cluster !== null || !seen.has(nameOf(origin)))) {
      take(origin.cluster, nameOf(origin), volume.name);
    }
  }
  return [...found.values()];
}

/** What an address asks of a cluster's page; what makes no sense is left out. */
export function claimSearchOf(given: Record<string, unknown>): { claim?: string; tab?: "classes" } {
  const claim = typeof given.claim === "string" && given.claim !== "" ? { claim: given.claim } : {};
  return { ...claim, ...(given.tab === "classes" ? { tab: "classes" as const } : {}) };
}
