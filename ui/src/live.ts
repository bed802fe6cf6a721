// The stream of changes: what it names is read again, and nothing else.

import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { ApiError, get } from "./api";
import { client } from "./queries";
import { isDue } from "./series";
import type { Changes, Metrics, Volume } from "./types";

/** Queries that show a kind of change. */
const SHOWN_IN: Record<string, string[]> = {
  volume: ["volume", "containers", "kubernetes", "space"],
  snapshot: ["snapshots", "group-snapshots", "space"],
  "group-snapshot": ["snapshots", "group-snapshots"],
  container: ["containers"],
  node: ["cluster", "resiliency", "stores", "disks", "settings"],
  store: ["stores", "resiliency", "disks", "space"],
  event: ["events"],
  task: ["tasks"],
  alert: ["alerts", "alert-targets"],
  "alert-target": ["alert-targets"],
  // A light that somebody switched.
  disk: ["disks"],
  placement: ["stores", "resiliency", "disks", "groups"],
  health: ["stores", "resiliency", "cluster", "disks", "groups"],
  // How long clients are silent is told with the figures, and walks end without a word of their own.
  metrics: ["busiest", "volume", "space"],
  kubernetes: ["kubernetes"],
  claims: ["kubernetes", "claims", "claims-of-volume"],
  user: ["users"],
  // Users say how many sessions they have.
  session: ["users", "sessions"],
  token: ["tokens"],
  audit: ["audit"],
  authority: ["authority"],
};
/** Long lists, read one at a time and with this pause at least: a busy cluster changes faster than they are read. */
const PACED_MS: Record<string, number> = {
  claims: 2000,
  "claims-of-volume": 2000,
  kubernetes: 10000,
  volumes: 2000,
  snapshots: 2000,
  "group-snapshots": 2000,
  // Every node is asked for its own.
  disks: 2000,
  // A busy cluster is one of many changes, and each is in it.
  audit: 2000,
  users: 2000,
  // Volumes and snapshots by the thousand; what the walks find changes by the minute.
  space: 60_000,
};
/** Volumes that are read one by one at most; with more the whole list is. */
const SINGLES_MAX = 24;
/** Changes that come within so many milliseconds are shown together. */
const GATHER_MS = 300;

/** Does a work one at a time. What asks for it meanwhile, and in the pause behind it, has it done once more. */
export function oneByOne(work: () => Promise<unknown>, pauseMs: number): () => void {
  let busy = false;
  let again = false;
  const run = async () => {
    do {
      again = false;
      await work().catch(() => undefined);
      await new Promise((later) => setTimeout(later, pauseMs));
    } while (again);
    busy = false;
  };
  return () => {
    again = true;
    if (!busy) {
      busy = true;
      void run();
    }
  };
}

const invalidate = (key: string) => client.invalidateQueries({ queryKey: [key] });
const paced = new Map(
  Object.entries(PACED_MS).map(([key, pause]) => [key, oneByOne(() => invalidate(key), pause)]),
);

/** What to do about changes: queries to read again, volumes to read and to forget. */
export interface Plan {
  stale: string[];
  read: number[];
  forget: number[];
}

export function plan(changes: { kind: string; id: number; gone: boolean }[]): Plan {
  const stale = new Set(changes.flatMap((change) => SHOWN_IN[change.kind] ?? []));
  const last = new Map<number, boolean>();
  for (const change of changes.filter((one) => one.kind === "volume")) {
    last.set(change.id, change.gone);
  }
  const volumes = [...last];
  if (volumes.length > SINGLES_MAX) {
    stale.add("volumes");
    return { stale: [...stale], read: [], forget: [] };
  }
  return {
    stale: [...stale],
    read: volumes.filter(([, gone]) => !gone).map(([id]) => id),
    forget: volumes.filter(([, gone]) => gone).map(([id]) => id),
  };
}

/** A list of volumes with some replaced, added or left out; by name, as the API has it. */
export function merge(list: Volume[], fresh: Volume[], gone: number[]): Volume[] {
  const dropped = new Set([...gone, ...fresh.map((volume) => volume.id)]);
  const kept = list.filter((volume) => !dropped.has(volume.id));
  return [...kept, ...fresh].sort((one, other) => (one.name < other.name ? -1 : 1));
}

async function carryOut(changes: { kind: string; id: number; gone: boolean }[]): Promise<void> {
  if (changes.some((change) => change.kind === "metrics")) {
    void client.invalidateQueries({
      queryKey: ["metrics"],
      predicate: ({ state }) =>
        isDue((state.data as Metrics | undefined)?.step, state.dataUpdatedAt, Date.now()),
    });
  }
  const { stale, read, forget } = plan(changes);
  for (const key of stale) {
    const asked = paced.get(key);
    if (asked) {
      asked();
    } else {
      void invalidate(key);
    }
  }
  if (read.length + forget.length === 0 || client.getQueryData(["volumes"]) === undefined) {
    return;
  }
  const gone = [...forget];
  const found = await Promise.all(
    read.map((id) =>
      get<Volume>(`/volumes/volume-${id}`).catch((error: unknown) => {
        if (error instanceof ApiError && error.kind === "not-found") {
          gone.push(id);
          return null;
        }
        paced.get("volumes")?.();
        return null;
      }),
    ),
  );
  const fresh = found.filter((volume) => volume !== null);
  client.setQueryData<Volume[]>(["volumes"], (list) => (list ? merge(list, fresh, gone) : list));
}

let connected = false;
const listeners = new Set<() => void>();

function setConnected(next: boolean): void {
  if (connected !== next) {
    connected = next;
    for (const listener of listeners) {
      listener();
    }
  }
}

/** Whether changes are told as they happen. */
export function useConnected(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => connected,
  );
}

/**
 * Calls `heard` with the data of each event `name` at `where` while the page is looked at; nowhere: not at all. True when the
 * server refused: then nothing comes.
 */
export function useStream<T>(where: string | null, name: string, heard: (data: T) => void): boolean {
  const [refused, setRefused] = useState<string | null>(null);
  const latest = useRef(heard);
  useEffect(() => {
    latest.current = heard;
  }, [heard]);
  useEffect(() => {
    if (where === null) {
      return;
    }
    let source: EventSource | null = null;
    const turn = () => {
      source?.close();
      source = document.hidden ? null : new EventSource(`/api/v1${where}`);
      source?.addEventListener(name, (event: MessageEvent<string>) =>
        latest.current(JSON.parse(event.data) as T),
      );
      source?.addEventListener("open", () => setRefused(null));
      source?.addEventListener("error", (event) => {
        // After a mere loss of the connection it is made again.
        if ((event.target as EventSource).readyState === EventSource.CLOSED) {
          setRefused(where);
        }
      });
    };
    turn();
    document.addEventListener("visibilitychange", turn);
    return () => {
      document.removeEventListener("visibilitychange", turn);
      source?.close();
    };
  }, [where, name]);
  return refused !== null && refused === where;
}

/** Follows the stream while the page is looked at. A hidden one closes it: browsers have few connections to a server. */
export function useLive(): void {
  useEffect(() => {
    let source: EventSource | null = null;
    let waiting: Changes["changes"] = [];
    let timer: ReturnType<typeof setTimeout> | null = null;
    let opened = false;
    const gather = (event: MessageEvent<string>) => {
      waiting.push(...(JSON.parse(event.data) as Changes).changes);
      timer ??= setTimeout(() => {
        timer = null;
        const changes = waiting;
        waiting = [];
        void carryOut(changes);
      }, GATHER_MS);
    };
    const open = () => {
      source = new EventSource("/api/v1/stream");
      source.addEventListener("open", () => setConnected(true));
      source.addEventListener("changes", gather);
      source.addEventListener("reset", () => void client.invalidateQueries());
      source.addEventListener("error", () => {
        setConnected(false);
        if (source?.readyState === EventSource.CLOSED) {
          // Refused: the session may have ended.
          void client.invalidateQueries({ queryKey: ["session"] });
        }
      });
      if (opened) {
        // What happened while the page was hidden was told to nobody.
        void client.invalidateQueries();
      }
      opened = true;
    };
    const close = () => {
      source?.close();
      source = null;
    };
    const onVisible = () => {
      close();
      if (!document.hidden) {
        open();
      }
    };
    onVisible();
    document.addEventListener("visibilitychange", onVisible);
    return () => {
      document.removeEventListener("visibilitychange", onVisible);
      if (timer !== null) {
        clearTimeout(timer);
      }
      close();
      setConnected(false);
    };
  }, []);
}
