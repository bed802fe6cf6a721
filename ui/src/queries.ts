// What the pages read, and how they hear that it changed. Nothing asks again by itself: the stream says when to. That nobody reports of
// a Kubernetes cluster any more is no change: it is asked for when it would be seen, and not again.

import { QueryClient, useQueries, useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { ApiError, get, path } from "./api";
import { type Claims, claimsPath, readAll } from "./claims";
import { looksForSilence, oldestReport } from "./silence";
import type {
  Alerts,
  AlertTarget,
  AuditEntry,
  Authority,
  Busiest,
  Claim,
  Cluster,
  ClusterEvent,
  Container,
  Disk,
  GroupSnapshot,
  Kubernetes,
  Metrics,
  OpenSession,
  PlacementGroup,
  Resiliency,
  Session,
  Setting,
  Snapshot,
  SpaceReport,
  Store,
  Task,
  Token,
  User,
  Volume,
} from "./types";
import { firstEnd, looksForEnd } from "./volume-facts";

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: Number.POSITIVE_INFINITY,
      refetchOnWindowFocus: false,
      retry: (count, error) => count < 2 && error instanceof ApiError && error.kind === "unavailable",
    },
  },
});

export const useSession = () =>
  useQuery({ queryKey: ["session"], queryFn: () => get<Session>("/session"), retry: 3 });
export const useCluster = () => useQuery({ queryKey: ["cluster"], queryFn: () => get<Cluster>("/cluster") });
export const useStores = (enabled = true) =>
  useQuery({ queryKey: ["stores"], queryFn: () => get<Store[]>("/stores"), enabled });
/** Others than the cluster may switch lights, which nobody tells of: read anew as well whenever it is shown. */
export const useDisks = (enabled = true) =>
  useQuery({ queryKey: ["disks"], queryFn: () => get<Disk[]>("/disks"), staleTime: 0, enabled });
/** They change with a start of their node, which is a change of the cluster. */
export const useSettings = () =>
  useQuery({ queryKey: ["settings"], queryFn: () => get<Setting[]>("/settings"), staleTime: 0 });
/** Bytes grow without a word of theirs: read anew as well whenever they are shown. */
export const usePlacementGroups = () =>
  useQuery({ queryKey: ["groups"], queryFn: () => get<PlacementGroup[]>("/groups"), staleTime: 0 });
export const useResiliency = () =>
  useQuery({ queryKey: ["resiliency"], queryFn: () => get<Resiliency>("/resiliency") });
export const useContainers = () =>
  useQuery({ queryKey: ["containers"], queryFn: () => get<Container[]>("/containers") });
/** Looks again when a quarantine is over, which is no change. */
function useEndOfQuarantine(key: "volume" | "volumes", volumes: Volume[]): void {
  const end = firstEnd(volumes);
  useEffect(() => {
    const timers = (end === null ? [] : looksForEnd(end, Date.now())).map((later) =>
      setTimeout(() => void client.invalidateQueries({ queryKey: [key] }), later),
    );
    return () => {
      for (const timer of timers) {
        clearTimeout(timer);
      }
    };
  }, [key, end]);
}

export function useVolumes() {
  const query = useQuery({ queryKey: ["volumes"], queryFn: () => get<Volume[]>("/volumes") });
  useEndOfQuarantine("volumes", query.data ?? []);
  return query;
}

export function useVolume(name: string) {
  const query = useQuery({
    queryKey: ["volume", name],
    queryFn: () => get<Volume>(`/volumes${path(name)}`),
  });
  useEndOfQuarantine("volume", query.data ? [query.data] : []);
  return query;
}

export const useGroupSnapshots = (enabled = true) =>
  useQuery({
    queryKey: ["group-snapshots"],
    queryFn: () => get<GroupSnapshot[]>("/group-snapshots"),
    enabled,
  });
export const useSnapshots = (enabled = true) =>
  useQuery({ queryKey: ["snapshots"], queryFn: () => get<Snapshot[]>("/snapshots"), enabled });
/** The bound of the API; up to 1,000 are kept. */
export const EVENTS_SHOWN_MAX = 500;
/** The newest ones. */
export const useEvents = (limit = EVENTS_SHOWN_MAX) =>
  useQuery({
    queryKey: ["events", limit],
    queryFn: () => get<{ events: ClusterEvent[] }>(`/events?limit=${limit}`),
  });
/** What is under way: for every page. */
export const useOpenTasks = () =>
  useQuery({
    queryKey: ["tasks", "open"],
    queryFn: () => get<{ tasks: Task[]; open: number }>("/tasks?status=open&limit=1"),
  });
export const useTasks = (enabled = true) =>
  useQuery({
    queryKey: ["tasks", "all"],
    queryFn: () => get<{ tasks: Task[]; open: number }>("/tasks?limit=1000"),
    enabled,
  });
/** All that are kept fit: the bound is that of the API. */
export const useAlerts = (state: "open" | "resolved" | "all", enabled = true) =>
  useQuery({
    queryKey: ["alerts", state],
    queryFn: () => get<Alerts>(`/alerts?state=${state}&limit=800`),
    enabled,
  });
export const useAlertTargets = (enabled = true) =>
  useQuery({ queryKey: ["alert-targets"], queryFn: () => get<AlertTarget[]>("/alert-targets"), enabled });
/** Walks and sums: read anew whenever a page that shows it is opened, and with what the stream tells, at most once a minute. */
export const useSpace = () =>
  useQuery({ queryKey: ["space"], queryFn: () => get<SpaceReport>("/space"), staleTime: 0 });
export const useUsers = (enabled: boolean) =>
  useQuery({ queryKey: ["users"], queryFn: () => get<User[]>("/users"), enabled });
/** Of all users for an administrator, one's own for everybody else. */
export const useSessions = () =>
  useQuery({ queryKey: ["sessions"], queryFn: () => get<OpenSession[]>("/sessions") });
export const useTokens = (enabled: boolean) =>
  useQuery({ queryKey: ["tokens"], queryFn: () => get<Token[]>("/tokens"), enabled });
/** The newest of up to 4,096 that are kept. */
export const AUDIT_SHOWN_MAX = 1000;
export const useAudit = (enabled: boolean, drivers = false) =>
  useQuery({
    queryKey: ["audit", drivers],
    queryFn: () => get<AuditEntry[]>(`/audit?limit=${AUDIT_SHOWN_MAX}&drivers=${drivers}`),
    enabled,
    staleTime: 0,
  });
/** Nothing in a cluster without certificates. */
export const useAuthority = (enabled: boolean) =>
  useQuery({
    queryKey: ["authority"],
    queryFn: () => get<Authority>("/authority"),
    enabled,
    retry: false,
    staleTime: 0,
  });

/** Figures of an entity over the last so many seconds. The stream says when another step is there. */
export const useMetrics = (entity: string, metrics: string[], seconds: number) =>
  useQuery({
    queryKey: ["metrics", entity, metrics.join(","), seconds],
    queryFn: () => {
      const from = Date.now() - seconds * 1000;
      const what = `entity=${encodeURIComponent(entity)}&metric=${encodeURIComponent(metrics.join(","))}`;
      return get<Metrics>(`/metrics/query?${what}&from=${from}`);
    },
    // Another range may show the last one for a moment; another volume may not.
    placeholderData: (before, query) => (query?.queryKey[1] === entity ? before : undefined),
    staleTime: 0,
  });
/** Volumes in the list of the busiest: with more, the idle ones have no figures on a page. */
export const BUSIEST_MAX = 1000;
export const useBusiest = () =>
  useQuery({
    queryKey: ["busiest"],
    queryFn: () => get<Busiest>(`/metrics/busiest?limit=${BUSIEST_MAX}`),
  });

export function useKubernetes(enabled = true) {
  const query = useQuery({
    queryKey: ["kubernetes"],
    queryFn: async () => (await get<{ items: Kubernetes[] }>("/kubernetes")).items,
    enabled,
  });
  const oldest = enabled ? oldestReport(query.data ?? []) : null;
  useEffect(() => {
    const timers = (oldest === null ? [] : looksForSilence(oldest, Date.now())).map((later) =>
      setTimeout(() => void client.invalidateQueries({ queryKey: ["kubernetes"] }), later),
    );
    return () => {
      for (const timer of timers) {
        clearTimeout(timer);
      }
    };
  }, [oldest]);
  return query;
}

interface PageOfClaims {
  items: Claim[];
  next?: string | null;
}
const claimsOf = (cluster: string) => ({
  queryKey: ["claims", cluster],
  queryFn: () => readAll((after) => get<PageOfClaims>(claimsPath(cluster, after))),
});
/** All claims of a cluster: many thousands at times. */
export const useClaims = (cluster: string) => useQuery(claimsOf(cluster));

/** Those of several clusters, as far as they are there, and whether some are still being read. */
export function useClaimsOfAll(
  clusters: string[],
  enabled: boolean,
): { reading: boolean; all: { cluster: string; claims: Claims["claims"] }[] } {
  return useQueries({
    queries: clusters.map((cluster) => ({ ...claimsOf(cluster), enabled })),
    combine: (queries) => ({
      reading: queries.some((one) => one.isLoading),
      all: queries.map((one, at) => ({ cluster: clusters[at] ?? "", claims: one.data?.claims ?? [] })),
    }),
  });
}

/** What clusters tell of a volume's claim: more than one claim may have had it. */
export const useClaimsOfVolume = (clusters: string[], volume: number) =>
  useQuery({
    queryKey: ["claims-of-volume", volume, clusters],
    queryFn: async () => {
      const ask = async (cluster: string) => {
        const { items } = await get<PageOfClaims>(
          `/kubernetes${path(cluster)}/claims?volume=volume-${volume}`,
        );
        return items.map((claim) => ({ cluster, claim }));
      };
      return (await Promise.all(clusters.map(ask))).flat();
    },
    enabled: clusters.length > 0,
  });

/** What the user who has logged in may do. */
export function useRights(): { operate: boolean; administer: boolean } {
  const scope = useSession().data?.scope;
  return { operate: scope === "admin" || scope === "operator", administer: scope === "admin" };
}
