// Containers with what is measured of their volumes.

import { percent } from "./format";
import { reductionsOfContainers } from "./reduction";
import type { Busiest, Container, SpaceReport, Volume } from "./types";

/** A container with sums over its volumes; nothing where they are not known, or not all of them. */
export interface ContainerRow extends Container {
  /** Bytes that its volumes map now. */
  mapped: number | null;
  /** Bytes that its snapshots map, as last counted. */
  inSnapshots: number | null;
  /** Bytes that the stores get back, at least, when all in it is deleted: all copies, as stored. */
  frees: number | null;
  /** Hundredths of the quota that the sizes of its volumes take; nothing: there is no quota. */
  quotaUsed: number | null;
  /** Hundredths: what compression saves, where that of all in it is known. */
  reduction: number | null;
  iops: number | null;
  bandwidth: number | null;
  /** Mean microseconds of reads and writes; nothing while there are none. */
  latency: number | null;
}

/** Of the whole cluster: sums are only told where every busy volume is in the list. */
export function isWhole(busiest: Busiest, most: number): boolean {
  const last = busiest.volumes.at(-1);
  const cut = busiest.volumes.length >= most && (last?.rates.iops ?? 0) > 0;
  return busiest.at_ms > 0 && busiest.silent.length === 0 && !cut;
}

/** Sums by container's name. */
function sums<One>(all: One[], name: (one: One) => string, value: (one: One) => number): Map<string, number> {
  const found = new Map<string, number>();
  for (const one of all) {
    found.set(name(one), (found.get(name(one)) ?? 0) + value(one));
  }
  return found;
}

/** Means by container's name, each volume with as much weight as it has reads and writes. */
function latencies(volumes: Busiest["volumes"]): Map<string, number> {
  const timed = volumes.flatMap(({ container, rates }) => {
    const done = rates.read_iops + rates.write_iops;
    return rates.latency_us !== null && done > 0 ? [{ container, done, took: done * rates.latency_us }] : [];
  });
  const name = (one: { container: string }) => one.container;
  const took = sums(timed, name, (one) => one.took);
  return new Map(
    [...sums(timed, name, (one) => one.done)].map(([of, done]) => [of, (took.get(of) ?? 0) / done]),
  );
}

interface Known {
  volumes?: Volume[];
  space?: SpaceReport;
  busiest?: Busiest;
  /** Volumes in the list of the busiest at most. */
  busiestMax: number;
}

export function containerRows(containers: Container[], known: Known): ContainerRow[] {
  const { volumes, space, busiestMax } = known;
  const busiest = known.busiest && isWhole(known.busiest, busiestMax) ? known.busiest.volumes : undefined;
  const mapped =
    volumes &&
    sums(
      volumes,
      (one) => one.container,
      (one) => one.mapped,
    );
  const rates = (kind: "iops" | "bandwidth") =>
    busiest &&
    sums(
      busiest,
      (one) => one.container,
      (one) => one.rates[kind],
    );
  const [iops, bandwidth] = [rates("iops"), rates("bandwidth")];
  const latency = latencies(busiest ?? []);
  const own = sums(
    volumes ?? [],
    (one) => one.container,
    () => 1,
  );
  const reductions = space && volumes ? reductionsOfContainers(space, own) : new Map<string, number>();
  const counted = new Map(space?.containers.map((one) => [one.name, one]));
  return containers.map((one) => ({
    ...one,
    mapped: mapped ? (mapped.get(one.name) ?? 0) : null,
    inSnapshots: counted.get(one.name)?.snapshots ?? null,
    frees: counted.get(one.name)?.frees ?? null,
    quotaUsed: one.quota ? Math.round(percent(one.provisioned, one.quota) * 10) / 10 : null,
    iops: iops ? (iops.get(one.name) ?? 0) : null,
    bandwidth: bandwidth ? (bandwidth.get(one.name) ?? 0) : null,
    latency: latency.get(one.name) ?? null,
    reduction: reductions.get(one.name) ?? null,
  }));
}
