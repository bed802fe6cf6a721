// Which of several chosen volumes something can be done with.

import type { Volume } from "./types";

export interface Attached {
  volume: string;
  client: string;
}

/** Every client of every one of them. */
export function attachments(volumes: Pick<Volume, "name" | "attachment">[]): Attached[] {
  return volumes.flatMap(({ name, attachment }) =>
    attachment.clients.map((client) => ({ volume: name, client })),
  );
}

/** Those that a new size makes larger: none ever gets smaller. */
export function growing<One extends { size: number }>(volumes: One[], size: number): One[] {
  return volumes.filter((volume) => volume.size < size);
}

/** Limits that were filled in; 0 takes one away. */
export function changesOf(
  iops: string | number,
  bandwidth: number | null,
): { iops_limit?: number; bandwidth_limit?: number } {
  return {
    ...(iops === "" ? {} : { iops_limit: Number(iops) }),
    ...(bandwidth === null ? {} : { bandwidth_limit: bandwidth }),
  };
}
