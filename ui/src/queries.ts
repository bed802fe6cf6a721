// What the pages read, and how they hear that it changed. Nothing asks again by itself: the stream says when to.

import { QueryClient, useQuery } from "@tanstack/react-query";
import { ApiError, get, path } from "./api";
import type {
  AuditEntry,
  Authority,
  Cluster,
  ClusterEvent,
  Container,
  Resiliency,
  Session,
  Snapshot,
  SpaceReport,
  Store,
  Token,
  User,
  Volume,
} from "./types";

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
export const useStores = () => useQuery({ queryKey: ["stores"], queryFn: () => get<Store[]>("/stores") });
export const useResiliency = () =>
  useQuery({ queryKey: ["resiliency"], queryFn: () => get<Resiliency>("/resiliency") });
export const useContainers = () =>
  useQuery({ queryKey: ["containers"], queryFn: () => get<Container[]>("/containers") });
export const useVolumes = () => useQuery({ queryKey: ["volumes"], queryFn: () => get<Volume[]>("/volumes") });
export const useVolume = (name: string) =>
  useQuery({ queryKey: ["volume", name], queryFn: () => get<Volume>(`/volumes${path(name)}`) });
export const useSnapshots = () =>
  useQuery({ queryKey: ["snapshots"], queryFn: () => get<Snapshot[]>("/snapshots") });
export const useEvents = () =>
  useQuery({
    queryKey: ["events"],
    queryFn: () => get<{ events: ClusterEvent[] }>("/events?limit=500"),
  });
/** Walks and sums: read anew whenever the page is opened, never by itself. */
export const useSpace = () =>
  useQuery({ queryKey: ["space"], queryFn: () => get<SpaceReport>("/space"), staleTime: 0 });
export const useUsers = (enabled: boolean) =>
  useQuery({ queryKey: ["users"], queryFn: () => get<User[]>("/users"), enabled });
export const useTokens = (enabled: boolean) =>
  useQuery({ queryKey: ["tokens"], queryFn: () => get<Token[]>("/tokens"), enabled });
export const useAudit = (enabled: boolean) =>
  useQuery({
    queryKey: ["audit"],
    queryFn: () => get<AuditEntry[]>("/audit?limit=1000"),
    enabled,
    staleTime: 0,
  });
/** Nothing in a cluster without certificates. */
export const useAuthority = (enabled: boolean) =>
  useQuery({ queryKey: ["authority"], queryFn: () => get<Authority>("/authority"), enabled, retry: false });

/** What the user who has logged in may do. */
export function useRights(): { operate: boolean; administer: boolean } {
  const scope = useSession().data?.scope;
  return { operate: scope === "admin" || scope === "operator", administer: scope === "admin" };
}
