// The search over everything that has a name.

import { Select } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { word } from "./i18n";
import {
  useAlerts,
  useClaimsOfAll,
  useCluster,
  useContainers,
  useDisks,
  useKubernetes,
  useSnapshots,
  useTasks,
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
  const kubernetes = useKubernetes(searching);
  const clusters = kubernetes.data ?? [];
  const names = clusters.map((one) => one.name);
  const claims = useClaimsOfAll(names, searching);
  const asked = [snapshots, disks, tasks, alerts, kubernetes];
  return {
    reading: claims.reading || asked.some((query) => query.isLoading),
    known: {
      volumes,
      containers,
      nodes,
      clusters,
      claims: claims.all,
      snapshots: snapshots.data ?? [],
      disks: disks.data ?? [],
      tasks: tasks.data?.tasks ?? [],
      alerts: alerts.data?.alerts ?? [],
    },
  };
}

const PAGES = {
  volume: "/volumes/$name",
  container: "/containers/$name",
  node: "/hardware/$name",
  kubernetes: "/kubernetes/$name",
  snapshots: "/snapshots",
  tasks: "/tasks",
  alerts: "/alerts",
} as const;

function useOpen(): (target: Target) => void {
  const navigate = useNavigate();
  return (target) => {
    if (target.to === "claim") {
      const { cluster, claim, volume } = target.found;
      if (cluster !== null) {
        void navigate({ to: "/kubernetes/$name", params: { name: cluster }, search: { claim } });
      } else if (volume !== null) {
        void navigate({ to: "/volumes/$name", params: { name: volume } });
      }
    } else if ("name" in target) {
      void navigate({ to: PAGES[target.to], params: { name: target.name } });
    } else {
      void navigate({ to: PAGES[target.to] });
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
