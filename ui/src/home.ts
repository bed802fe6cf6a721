// What Home makes of the answers of the API.

import { ratio } from "./format";
import type { Word } from "./i18n";
import type { ClusterEvent, Part, SpaceReport } from "./types";

/** What data takes less of than clients wrote, by what saves it. Nothing before data was walked. */
export function reductions(report: SpaceReport): [Word, string][] {
  const { walked, mapped, distinct, stored } = report;
  if (walked === 0 || distinct === 0 || stored === 0) {
    return [];
  }
  return [
    ["spaceSharing", ratio(report.sharing_hundredths)],
    ["spaceCompression", ratio(report.compression_hundredths)],
    ["reductionBoth", ratio((mapped * 100) / stored)],
  ];
}

/** Those containers that give back most when all in them is deleted. */
export function largestContainers(
  containers: SpaceReport["containers"],
  most: number,
): SpaceReport["containers"] {
  const some = containers.filter((one) => one.frees > 0);
  return some.toSorted((one, other) => other.frees - one.frees).slice(0, most);
}

/** The newest events, newest first. */
export function newest(events: ClusterEvent[], most: number): ClusterEvent[] {
  return events.toSorted((one, other) => other.id - one.id).slice(0, most);
}

const WORSE: Record<string, number> = { critical: 2, degraded: 1 };

/** Parts of the cluster, those first that something is wrong with; otherwise as the API has them. */
export function partRows(parts: Part[]): (Part & { key: string })[] {
  const worse = ({ state }: Part) => WORSE[state] ?? 0;
  return parts
    .map((part) => ({ ...part, key: `${part.component}-${part.rf ?? ""}-${part.domain}` }))
    .toSorted((one, other) => worse(other) - worse(one));
}
