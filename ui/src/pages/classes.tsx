// Storage classes of a Kubernetes cluster, and a form that makes the text of another.

import { Stack, Text } from "@mantine/core";
import { useMemo } from "react";
import { ClassForm } from "../class-form";
import { useLanguage, word } from "../i18n";
import { Panel } from "../parts";
import { type Column, DataTable } from "../table";
import type { Kubernetes, StorageClass } from "../types";

const parametersOf = (one: StorageClass) =>
  Object.entries(one.parameters).map(([key, value]) => `${key}=${value}`);

/** A text that may be longer than its cell. */
function text(
  id: string,
  title: string,
  value: (one: StorageClass) => string,
  width: string,
): Column<StorageClass> {
  return {
    id,
    title,
    value: (one) => value(one) || null,
    show: (one) => <span title={value(one)}>{value(one) || "–"}</span>,
    width,
  };
}

function mark(id: "default" | "expansion", title: string): Column<StorageClass> {
  return { id, title, value: (one) => (one[id] ? "✓" : ""), width: "minmax(90px, 0.4fr)" };
}

function columns(): Column<StorageClass>[] {
  return [
    text("name", word("name"), (one) => one.name, "minmax(130px, 1fr)"),
    mark("default", word("classDefault")),
    text("parameters", word("classParameters"), (one) => parametersOf(one).join(", "), "minmax(300px, 3fr)"),
    text("reclaim", word("reclaimPolicy"), (one) => one.reclaim_policy, "minmax(120px, 0.6fr)"),
    text("binding", word("classBinding"), (one) => one.binding_mode, "minmax(180px, 0.8fr)"),
    mark("expansion", word("classExpansion")),
    text("mount", word("classMountOptions"), (one) => one.mount_options.join(", "), "minmax(140px, 1fr)"),
  ];
}

export function Classes({ cluster }: { cluster: Kubernetes }) {
  const language = useLanguage();
  const { classes, reported_ms } = cluster;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const drawn = useMemo(columns, [language]);
  return (
    <Stack>
      <Panel title={word("storageClasses")}>
        {classes.length > 0 ? (
          <DataTable label={word("storageClasses")} rows={classes} columns={drawn} id={(one) => one.name} />
        ) : (
          <Text size="sm">{word(reported_ms == null ? "classesUnknown" : "classesNone")}</Text>
        )}
      </Panel>
      <ClassForm taken={classes.map((one) => one.name)} />
    </Stack>
  );
}
