// What compression saves of one volume, or of those of a container: only where all that is stored is their own.

import type { SpaceReport, Usage } from "./types";

/** Hundredths: what is mapped by what one copy of it takes. Nothing: not walked, nothing there, or blocks are shared. */
export function reductionOf({ mapped, stored }: Pick<Usage, "mapped" | "stored">): number | null {
  return stored && mapped > 0 ? Math.round((mapped * 100) / stored) : null;
}

/** Of volumes, by their id. */
export function reductionsOfVolumes(space: SpaceReport | undefined): Map<number, number> {
  const known = (space?.volumes ?? []).flatMap((one): [number, number][] => {
    const reduction = reductionOf(one.usage);
    return reduction === null ? [] : [[one.id, reduction]];
  });
  return new Map(known);
}

/**
 * Of containers, by their name. One with a volume or a snapshot whose share nobody knows has none: what is known of the others is
 * not what is so of all. `volumes` by container: one that was not walked yet is not in the report.
 */
export function reductionsOfContainers(
  space: SpaceReport,
  volumes: Map<string, number>,
): Map<string, number> {
  const sums = new Map<string, { mapped: number; stored: number; walked: number }>();
  const unknown = new Set<string>();
  for (const { container, usage } of space.volumes) {
    const sum = sums.get(container) ?? { mapped: 0, stored: 0, walked: 0 };
    sum.walked += 1;
    sum.mapped += usage.mapped;
    sum.stored += usage.stored ?? 0;
    sums.set(container, sum);
    if (usage.mapped > 0 && usage.stored == null) {
      unknown.add(container);
    }
  }
  for (const { container, usage } of space.snapshots) {
    if (usage.mapped > 0) {
      unknown.add(container);
    }
  }
  return new Map(
    [...sums].flatMap(([name, sum]): [string, number][] => {
      const reduction = reductionOf(sum);
      const whole = !unknown.has(name) && sum.walked === (volumes.get(name) ?? 0);
      return whole && reduction !== null ? [[name, reduction]] : [];
    }),
  );
}
