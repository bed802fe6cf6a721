// One Kubernetes cluster: its claims and its storage classes.

import { Alert, Button, SimpleGrid, Stack, Tabs, Text } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { ClaimDetails, ClaimState, VolumeLink } from "../claim-parts";
import { named, podTexts, reportedList, statusText } from "../claims";
import { age, bytes, type Cell, time } from "../format";
import { useLanguage, word } from "../i18n";
import { Facts, Loaded, Page, Panel } from "../parts";
import { useClaims, useKubernetes, useRights, useVolumes } from "../queries";
import { kubernetesRoute } from "../router";
import { type Column, DataTable } from "../table";
import type { Claim, Kubernetes, Volume } from "../types";
import { Classes } from "./classes";
import { Forget, LastReport } from "./kubernetes";

/** A text that may be longer than its cell. */
function text(id: string, title: string, value: (one: Claim) => Cell, width: string): Column<Claim> {
  const show = (one: Claim) => {
    const shown = value(one);
    return shown === null ? "–" : <span title={String(shown)}>{shown || word("podsNone")}</span>;
  };
  return { id, title, value, show, width };
}

function size(id: string, title: string, value: (one: Claim) => number | null): Column<Claim> {
  return { id, title, value, show: (one) => bytes(value(one)), right: true, width: "minmax(110px, 0.6fr)" };
}

/** The columns of a table of claims, as old as they are at `now`. */
function columns(cluster: string, now: number): Column<Claim>[] {
  const oldness = (one: Claim) => (one.created_ms == null ? null : now - one.created_ms);
  return [
    text("namespace", word("namespace"), (one) => one.namespace, "minmax(130px, 1fr)"),
    {
      id: "name",
      title: word("name"),
      value: (one) => one.name,
      show: (one) => (
        <Link
          to="/kubernetes/$name"
          params={{ name: cluster }}
          search={{ claim: one.key }}
          title={one.name}
          resetScroll={false}
        >
          {one.name}
        </Link>
      ),
      width: "minmax(170px, 1.5fr)",
    },
    text("class", word("storageClass"), (one) => one.class ?? null, "minmax(110px, 0.8fr)"),
    {
      id: "status",
      title: word("status"),
      value: (one) => (one.reported ? statusText(one) : word("claimLabels")),
      show: (one) => (
        <>
          <ClaimState claim={one} /> {one.reason && <span title={one.reason}>{one.reason}</span>}
        </>
      ),
      width: "minmax(220px, 2fr)",
    },
    size("requested", word("requested"), (one) => one.requested ?? null),
    size("capacity", word("capacity"), (one) => one.capacity ?? null),
    size("used", word("used"), (one) => one.volume?.used ?? null),
    text("modes", word("accessModes"), (one) => one.access_modes.join(" ") || null, "minmax(150px, 1fr)"),
    text("reclaim", word("reclaimPolicy"), (one) => one.reclaim_policy ?? null, "minmax(140px, 0.6fr)"),
    {
      id: "volume",
      title: word("volume"),
      value: (one) => one.volume?.name ?? null,
      show: (one) => <VolumeLink claim={one} />,
      width: "minmax(170px, 1.5fr)",
    },
    text("attached", word("attachedNodes"), (one) => reportedList(one, one.attached), "minmax(175px, 1fr)"),
    text(
      "pods",
      word("pods"),
      (one) => reportedList(one, podTexts(one), one.pods_more),
      "minmax(220px, 2fr)",
    ),
    {
      id: "age",
      title: word("age"),
      value: oldness,
      show: (one) => {
        const old = oldness(one);
        return old === null ? "–" : age(old);
      },
      right: true,
      width: "90px",
    },
  ];
}

/** Claims with what their volumes hold now: of that the pages hear volume by volume. */
function withVolumes(claims: Claim[], volumes: Volume[]): Claim[] {
  const now = new Map(volumes.map((volume) => [volume.id, volume]));
  return claims.map((claim) => {
    const volume = claim.volume && now.get(claim.volume.id);
    if (!claim.volume || !volume) {
      return claim;
    }
    const { name, size, mapped, state, attachment } = volume;
    const fresh = { ...claim.volume, name, size, used: mapped, state, clients: attachment.clients };
    return { ...claim, volume: fresh };
  });
}

function ClaimTable({ cluster }: { cluster: Kubernetes }) {
  const { name } = cluster;
  const language = useLanguage();
  const navigate = useNavigate();
  const wanted = kubernetesRoute.useSearch().claim;
  const query = useClaims(name);
  const volumes = useVolumes().data;
  const read = query.data;
  const rows = useMemo(() => withVolumes(read?.claims ?? [], volumes ?? []), [read, volumes]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const drawn = useMemo(() => columns(name, query.dataUpdatedAt), [name, query.dataUpdatedAt, language]);
  const close = () => void navigate({ to: "/kubernetes/$name", params: { name }, search: {} });
  return (
    <Loaded query={query}>
      {({ more }) => (
        <>
          {more && (
            <Text size="sm" mb="xs" role="alert">
              {word("claimsFirst", rows.length)}
            </Text>
          )}
          <DataTable label={word("claims")} rows={rows} columns={drawn} id={(one) => one.key} />
          {wanted !== undefined && (
            <ClaimDetails claims={named(rows, wanted)} cluster={cluster} name={wanted} close={close} />
          )}
        </>
      )}
    </Loaded>
  );
}

/** How far what is shown can be believed. */
function Freshness({ cluster }: { cluster: Kubernetes }) {
  const language = useLanguage();
  const { reported_ms, silent } = cluster;
  if (reported_ms != null && !silent) {
    return null;
  }
  return (
    <Alert color="yellow" variant="outline" role="status">
      {reported_ms == null
        ? word("kubernetesLabelsHint")
        : word("kubernetesSilentHint", time(reported_ms, language))}
    </Alert>
  );
}

function Overview({ cluster }: { cluster: Kubernetes }) {
  const reported = cluster.reported_ms != null;
  return (
    <Panel title={word("kubernetes")}>
      <SimpleGrid cols={{ base: 1, sm: 2, lg: 3 }}>
        <Facts
          facts={[
            [word("version"), cluster.version ?? "–"],
            [word("kubernetesDriver"), cluster.driver ?? "–"],
            [word("kubernetesReported"), <LastReport key="reported" cluster={cluster} />],
          ]}
        />
        <Facts
          facts={[
            [word("claims"), cluster.claims],
            [word("claimsBound"), reported ? cluster.bound : "–"],
            [word("claimsPending"), reported ? cluster.pending : "–"],
          ]}
        />
        <Facts
          facts={[
            [word("volumes"), cluster.volumes],
            [word("size"), bytes(cluster.size)],
            [word("used"), bytes(cluster.used)],
          ]}
        />
      </SimpleGrid>
      <Text size="sm" c="dimmed" mt="xs" style={{ overflowWrap: "anywhere" }}>
        {word("kubernetesUid")} {cluster.uid ?? "–"}
      </Text>
    </Panel>
  );
}

function Inside({ cluster }: { cluster: Kubernetes }) {
  const navigate = useNavigate();
  const tab = kubernetesRoute.useSearch().tab ?? "claims";
  const turn = (to: string | null) => {
    const search = to === "classes" ? { tab: "classes" as const } : {};
    void navigate({ to: "/kubernetes/$name", params: { name: cluster.name }, search, replace: true });
  };
  return (
    <Stack>
      <Freshness cluster={cluster} />
      <Overview cluster={cluster} />
      <Tabs value={tab} onChange={turn} keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="claims">{word("claims")}</Tabs.Tab>
          <Tabs.Tab value="classes">{word("storageClasses")}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="claims">
          <ClaimTable cluster={cluster} />
        </Tabs.Panel>
        <Tabs.Panel value="classes">
          <Classes cluster={cluster} />
        </Tabs.Panel>
      </Tabs>
    </Stack>
  );
}

export function KubernetesClusterPage() {
  useLanguage();
  const { name } = kubernetesRoute.useParams();
  const navigate = useNavigate();
  const query = useKubernetes();
  const { operate } = useRights();
  const [asked, setAsked] = useState(false);
  const known = query.data?.find((one) => one.name === name);
  return (
    <Page
      name={name}
      actions={
        operate &&
        known?.reported_ms != null && (
          <Button color="red" onClick={() => setAsked(true)}>
            {word("kubernetesForget")}
          </Button>
        )
      }
    >
      <Loaded query={query}>
        {() => (known ? <Inside cluster={known} /> : <Text role="alert">{word("noSuchKubernetes")}</Text>)}
      </Loaded>
      {asked && (
        <Forget
          name={name}
          close={() => setAsked(false)}
          after={() => void navigate({ to: "/kubernetes" })}
        />
      )}
    </Page>
  );
}
