// The claim of a volume, on the volume's page: as it was reported, or as far as labels tell.

import { Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ClaimLink, ClaimState, usersOf } from "./claim-parts";
import { nameOf, type Origin, originOf } from "./claims";
import { word } from "./i18n";
import { LastReport } from "./pages/kubernetes";
import { Facts, Panel } from "./parts";
import { useClaimsOfVolume, useKubernetes } from "./queries";
import type { Claim, Kubernetes, Volume } from "./types";

const clusterLink = (name: string | null): ReactNode =>
  name === null ? (
    "–"
  ) : (
    <Link to="/kubernetes/$name" params={{ name }}>
      {name}
    </Link>
  );

function Reported({ name, claim, cluster }: { name: string; claim: Claim; cluster: Kubernetes | undefined }) {
  return (
    <Facts
      facts={[
        [
          word("claim"),
          <Link key="claim" to="/kubernetes/$name" params={{ name }} search={{ claim: claim.key }}>
            {nameOf(claim)}
          </Link>,
        ],
        [word("kubernetes"), clusterLink(name)],
        [word("status"), <ClaimState key="status" claim={claim} />],
        ...(claim.reason ? ([[word("reason"), claim.reason]] as [string, ReactNode][]) : []),
        [word("storageClass"), claim.class ?? "–"],
        ...usersOf(claim),
        [word("kubernetesReported"), cluster ? <LastReport key="reported" cluster={cluster} /> : "–"],
      ]}
    />
  );
}

function OfLabels({ origin, alone }: { origin: Origin; alone: boolean }) {
  return (
    <>
      <Facts
        facts={[
          [word("claim"), <ClaimLink key="claim" origin={origin} />],
          [word("kubernetes"), clusterLink(origin.cluster)],
        ]}
      />
      {alone && (
        <Text size="sm" c="dimmed">
          {word("claimLabelsHint")}
        </Text>
      )}
    </>
  );
}

/** Nothing for a volume that no claim is known of. */
export function ClaimOfVolume({ volume }: { volume: Volume }) {
  const known = useKubernetes();
  const clusters = known.data ?? [];
  const query = useClaimsOfVolume(
    clusters.map((one) => one.name),
    volume.id,
  );
  const origin = originOf(volume.labels);
  // Nobody has reported it, once all have answered.
  const alone = known.isSuccess && (clusters.length === 0 || query.isSuccess);
  const reported = (query.data ?? []).filter(({ claim }) => claim.reported);
  if (reported.length === 0 && !origin) {
    return null;
  }
  return (
    <Panel title={word("claim")}>
      <Stack gap="sm">
        {reported.map(({ cluster, claim }) => (
          <Reported
            key={`${cluster}/${claim.key}`}
            name={cluster}
            claim={claim}
            cluster={clusters.find((one) => one.name === cluster)}
          />
        ))}
        {reported.length === 0 && origin && <OfLabels origin={origin} alone={alone} />}
      </Stack>
    </Panel>
  );
}
