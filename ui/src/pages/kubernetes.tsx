// Kubernetes clusters, as the driver reports them and as labels of volumes name them.

import { Button, Code, Group, Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { call, path } from "../api";
import { Form, refresh } from "../dialogs";
import { bytes, time } from "../format";
import { useLanguage, word } from "../i18n";
import { Loaded, Page, State, tell } from "../parts";
import { useKubernetes, useRights } from "../queries";
import { type Column, DataTable } from "../table";
import type { Kubernetes } from "../types";

/** When something was reported last, and whether too long ago. */
export function LastReport({ cluster }: { cluster: Kubernetes }) {
  const language = useLanguage();
  if (cluster.reported_ms == null) {
    return "–";
  }
  return (
    <Group gap={6} wrap="nowrap" component="span" display="inline-flex">
      <span>{time(cluster.reported_ms, language)}</span>
      {cluster.silent && <State state="silent">{word("kubernetesSilent")}</State>}
    </Group>
  );
}

/** Asks before what was reported is forgotten. */
export function Forget({ name, close, after }: { name: string; close: () => void; after?: () => void }) {
  const act = async () => {
    await call("DELETE", `/kubernetes${path(name)}`);
    tell(`${word("kubernetesForget")}: ${name}`);
    await refresh("kubernetes", "claims", "claims-of-volume");
    after?.();
  };
  return (
    <Form title={word("kubernetesForget")} submit={word("kubernetesForget")} danger close={close} act={act}>
      <Text size="sm">{word("kubernetesForgetHint")}</Text>
      <Text size="sm" fw={600}>
        {name}
      </Text>
    </Form>
  );
}

function counted(
  id: "claims" | "bound" | "pending" | "volumes",
  title: string,
  reported: boolean,
): Column<Kubernetes> {
  const width = id === "pending" || id === "volumes" ? "minmax(94px, 0.6fr)" : "minmax(82px, 0.6fr)";
  const value = (one: Kubernetes) => (reported && one.reported_ms == null ? null : one[id]);
  return { id, title, value, show: (one) => value(one) ?? "–", right: true, width };
}

function columns(forget: ((name: string) => void) | null): Column<Kubernetes>[] {
  const all: Column<Kubernetes>[] = [
    {
      id: "name",
      title: word("name"),
      value: (one) => one.name,
      show: (one) => (
        <Link to="/kubernetes/$name" params={{ name: one.name }}>
          {one.name}
        </Link>
      ),
      width: "minmax(110px, 2fr)",
    },
    {
      id: "version",
      title: word("version"),
      value: (one) => one.version ?? null,
      show: (one) => one.version ?? "–",
      width: "minmax(90px, 0.8fr)",
    },
    {
      id: "driver",
      title: word("kubernetesDriver"),
      value: (one) => one.driver ?? null,
      show: (one) => one.driver ?? "–",
      width: "minmax(75px, 0.6fr)",
    },
    counted("claims", word("claims"), false),
    counted("bound", word("claimsBound"), true),
    counted("pending", word("claimsPending"), true),
    counted("volumes", word("volumes"), false),
    {
      id: "size",
      title: word("size"),
      value: (one) => one.size,
      show: (one) => bytes(one.size),
      right: true,
      width: "minmax(90px, 0.6fr)",
    },
    {
      id: "used",
      title: word("used"),
      value: (one) => one.used,
      show: (one) => bytes(one.used),
      right: true,
      width: "minmax(90px, 0.6fr)",
    },
    {
      id: "reported",
      title: word("kubernetesReported"),
      value: (one) => one.reported_ms ?? null,
      show: (one) => <LastReport cluster={one} />,
      width: "minmax(225px, 1.5fr)",
    },
  ];
  if (forget) {
    all.push({
      id: "actions",
      title: "",
      value: () => null,
      width: "90px",
      show: (one) => (
        <Button
          size="compact-xs"
          variant="default"
          aria-label={`${word("kubernetesForget")}: ${one.name}`}
          disabled={one.reported_ms == null}
          onClick={() => forget(one.name)}
        >
          {word("kubernetesForget")}
        </Button>
      ),
    });
  }
  return all;
}

/** How one comes here. */
function None() {
  return (
    <Stack gap="xs">
      <Text size="sm">{word("kubernetesNone")}</Text>
      <Text size="sm">{word("kubernetesNoneChart")}</Text>
      <Text size="sm">{word("kubernetesNoneDriver")}</Text>
      <Code block tabIndex={0}>
        azekura csi controller --kubernetes-cluster NAME --report-claims
      </Code>
    </Stack>
  );
}

export function KubernetesPage() {
  const language = useLanguage();
  const query = useKubernetes();
  const { operate } = useRights();
  const [forgotten, setForgotten] = useState<string | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const drawn = useMemo(() => columns(operate ? setForgotten : null), [operate, language]);
  return (
    <Page title="kubernetes">
      <Loaded query={query}>
        {(clusters) =>
          clusters.length === 0 ? (
            <None />
          ) : (
            <DataTable label={word("kubernetes")} rows={clusters} columns={drawn} id={(one) => one.name} />
          )
        }
      </Loaded>
      {forgotten !== null && <Forget name={forgotten} close={() => setForgotten(null)} />}
    </Page>
  );
}
