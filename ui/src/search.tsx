// The search over everything that has a name.

import { Select } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { Found } from "./claims";
import { word } from "./i18n";
import {
  useAlerts,
  useAlertTargets,
  useClaimsOfAll,
  useCluster,
  useContainers,
  useDisks,
  useGroupSnapshots,
  useKubernetes,
  useRights,
  useSnapshots,
  useStores,
  useTasks,
  useTokens,
  useUsers,
  useVolumes,
} from "./queries";
import { find, type Known, type Target } from "./search-entries";

/** What there is. Many thousands at times: most of it is read when somebody searches, and not before. */
function useKnown(searching: boolean): { known: Known; reading: boolean } {
  const volumes = useVolumes().data ?? [];
  const containers = useContainers().data ?? [];
  const nodes = useCluster().data?.nodes ?? [];
  const snapshots = useSnapshots(searching);
  const disks = useDisks(searching);
  const tasks = useTasks(searching);
  const alerts = useAlerts("open", searching);
  const stores = useStores(searching);
  const groups = useGroupSnapshots(searching);
  const targets = useAlertTargets(searching);
  const { administer } = useRights();
  const users = useUsers(administer && searching);
  const tokens = useTokens(administer && searching);
  const kubernetes = useKubernetes(searching);
  const clusters = kubernetes.data ?? [];
  const names = clusters.map((one) => one.name);
  const claims = useClaimsOfAll(names, searching);
  const asked = [snapshots, groups, stores, disks, tasks, alerts, targets, users, tokens, kubernetes];
  return {
    reading: claims.reading || asked.some((query) => query.isLoading),
    known: {
      volumes,
      containers,
      nodes,
      clusters,
      claims: claims.all,
      snapshots: snapshots.data ?? [],
      groups: groups.data ?? [],
      stores: stores.data ?? [],
      disks: disks.data ?? [],
      tasks: tasks.data?.tasks ?? [],
      alerts: alerts.data?.alerts ?? [],
      targets: targets.data ?? [],
      users: users.data ?? [],
      tokens: tokens.data ?? [],
    },
  };
}

const PAGES = {
  volume: "/volumes/$name",
  container: "/containers/$name",
  node: "/hardware/$name",
  kubernetes: "/kubernetes/$name",
} as const;

function useOpen(): (target: Target) => void {
  const navigate = useNavigate();
  const openClaim = ({ cluster, claim, volume }: Found) => {
    if (cluster !== null) {
      void navigate({ to: "/kubernetes/$name", params: { name: cluster }, search: { claim } });
    } else if (volume !== null) {
      void navigate({ to: "/volumes/$name", params: { name: volume } });
    }
  };
  return (target) => {
    switch (target.to) {
      case "claim":
        return openClaim(target.found);
      case "snapshots":
        return void navigate({ to: "/snapshots", search: { filter: target.filter } });
      case "groups":
        return void navigate({ to: "/snapshots", search: { tab: "groups", filter: target.filter } });
      case "task":
        return void navigate({ to: "/tasks", search: { task: target.id } });
      case "alert":
        return void navigate({ to: "/alerts", search: { alert: target.id } });
      case "target":
        return void navigate({ to: "/alerts", search: { target: target.name } });
      case "user":
        return void navigate({ to: "/settings", search: { tab: "users", filter: target.name } });
      case "token":
        return void navigate({ to: "/settings", search: { tab: "tokens", filter: target.name } });
      case "class":
        return void navigate({
          to: "/kubernetes/$name",
          params: { name: target.cluster },
          search: { tab: "classes" },
        });
      case "hardware":
        return void navigate({ to: "/hardware" });
      default:
        return void navigate({ to: PAGES[target.to], params: { name: target.name } });
    }
  };
}

export function Search() {
  const [text, setText] = useState("");
  const open = useOpen();
  const { known, reading } = useKnown(text.trim() !== "");
  const groups = find(text, known).map(({ group, items }) => ({
    group: word(group),
    items: items.map((entry, at) => ({
      // Two of them may be called the same, and a value is there once.
      value: JSON.stringify([group, at, entry.target]),
      label: entry.label,
    })),
  }));
  return (
    <Select
      aria-label={word("search")}
      placeholder={word("search")}
      size="xs"
      w={{ base: 150, sm: 320 }}
      searchable
      clearable={false}
      value={null}
      searchValue={text}
      onSearchChange={setText}
      data={groups}
      filter={({ options }) => options}
      nothingFoundMessage={text.trim() === "" ? undefined : word(reading ? "loading" : "searchNone")}
      rightSection={<span />}
      onChange={(value) => {
        if (value !== null) {
          setText("");
          open((JSON.parse(value) as [string, number, Target])[2]);
        }
      }}
    />
  );
}
