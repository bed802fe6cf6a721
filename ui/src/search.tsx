// The search over everything that has a name and a page.

import { Select } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { type Found, search } from "./claims";
import { word } from "./i18n";
import { useClaimsOfAll, useCluster, useContainers, useKubernetes, useVolumes } from "./queries";

const FOUND_MAX = 20;

type Kind = "volume" | "container" | "node" | "kubernetes" | "claim";

interface Entry {
  value: string;
  label: string;
}

/** Claims by the text to show. Those of several clusters say of which they are. */
function claimEntries(found: Found[]): Entry[] {
  const several = new Set(found.map((one) => one.cluster)).size > 1;
  return found.map((one) => ({
    value: `claim ${JSON.stringify(one)}`,
    label: several && one.cluster !== null ? `${one.claim} (${one.cluster})` : one.claim,
  }));
}

export function Search() {
  const navigate = useNavigate();
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const volumes = useVolumes().data ?? [];
  const containers = useContainers().data ?? [];
  const nodes = useCluster().data?.nodes ?? [];
  // Many thousands at times: read when somebody searches, and not before.
  const kubernetes = useKubernetes(wanted !== "");
  const clusters = kubernetes.data ?? [];
  const names = clusters.map((one) => one.name);
  const claims = useClaimsOfAll(names, wanted !== "");
  const none = word(kubernetes.isLoading || claims.reading ? "loading" : "searchNone");
  const entries = (kind: Kind, all: { name: string }[]): Entry[] =>
    all
      .filter((one) => one.name.toLowerCase().includes(wanted))
      .slice(0, FOUND_MAX)
      .map(({ name }) => ({ value: `${kind} ${name}`, label: name }));
  const groups =
    wanted === ""
      ? []
      : [
          { group: word("volumes"), items: entries("volume", volumes) },
          { group: word("claims"), items: claimEntries(search(wanted, claims.all, volumes, FOUND_MAX)) },
          { group: word("containers"), items: entries("container", containers) },
          { group: word("nodes"), items: entries("node", nodes) },
          { group: word("kubernetes"), items: entries("kubernetes", clusters) },
        ];
  const open = (value: string) => {
    const at = value.indexOf(" ");
    const [kind, name] = [value.slice(0, at) as Kind, value.slice(at + 1)];
    setText("");
    if (kind === "claim") {
      const { cluster, claim, volume } = JSON.parse(name) as Found;
      if (cluster !== null) {
        void navigate({ to: "/kubernetes/$name", params: { name: cluster }, search: { claim } });
      } else if (volume !== null) {
        void navigate({ to: "/volumes/$name", params: { name: volume } });
      }
      return;
    }
    const pages = {
      volume: "/volumes/$name",
      container: "/containers/$name",
      node: "/hardware/$name",
      kubernetes: "/kubernetes/$name",
    } as const;
    void navigate({ to: pages[kind], params: { name } });
  };
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
      data={groups.filter((group) => group.items.length > 0)}
      filter={({ options }) => options}
      nothingFoundMessage={wanted === "" ? undefined : none}
      rightSection={<span />}
      onChange={(value) => value && open(value)}
    />
  );
}
