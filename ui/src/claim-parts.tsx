// What several pages show of a claim: its state, its pods, all that is known of it.

import { Group, Modal, Stack, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { nameOf, type Origin, podTexts } from "./claims";
import { age, bytes, time } from "./format";
import { useLanguage, valueWord, word } from "./i18n";
import { LastReport } from "./pages/kubernetes";
import { Facts, State } from "./parts";
import type { Claim, Kubernetes } from "./types";

/** Its state in a colour, or that only labels tell of it. */
export function ClaimState({ claim }: { claim: Claim }) {
  if (!claim.reported) {
    return (
      <span title={word("claimLabelsHint")}>
        <State state="labels">{word("claimLabels")}</State>
      </span>
    );
  }
  return <State state={claim.status.toLowerCase()}>{valueWord("claim", claim.status)}</State>;
}

/** The claim that labels name; its page is known when its cluster is. */
export function ClaimLink({ origin }: { origin: Origin | null }) {
  if (!origin) {
    return "–";
  }
  const name = nameOf(origin);
  if (origin.cluster === null) {
    return <span title={name}>{name}</span>;
  }
  return (
    <Link to="/kubernetes/$name" params={{ name: origin.cluster }} search={{ claim: name }} title={name}>
      {name}
    </Link>
  );
}

export function VolumeLink({ claim }: { claim: Claim }) {
  if (!claim.volume) {
    return "–";
  }
  return (
    <Link to="/volumes/$name" params={{ name: claim.volume.name }}>
      {claim.volume.name}
    </Link>
  );
}

/** A list that was reported; one that is empty says so, and where nobody reported nothing is said. */
function listed(claim: Claim, texts: string[], more = 0): ReactNode {
  if (!claim.reported) {
    return "–";
  }
  if (texts.length + more === 0) {
    return word("podsNone");
  }
  return (
    <Stack gap={0}>
      {texts.map((text) => (
        <span key={text}>{text}</span>
      ))}
      {more > 0 && <span>{word("podsMore", more)}</span>}
    </Stack>
  );
}

/** Who uses it, as it was reported. */
export function usersOf(claim: Claim): [string, ReactNode][] {
  return [
    [word("pods"), listed(claim, podTexts(claim), claim.pods_more)],
    [word("attachedNodes"), listed(claim, claim.attached)],
  ];
}

function ClaimFacts({ claim, cluster }: { claim: Claim; cluster: Kubernetes }) {
  const language = useLanguage();
  const { volume, created_ms } = claim;
  return (
    <Stack gap="xs">
      <Group gap="xs">
        <ClaimState claim={claim} />
        {claim.reason && (
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            {claim.reason}
          </Text>
        )}
      </Group>
      {!claim.reported && <Text size="sm">{word("claimLabelsHint")}</Text>}
      <Facts
        facts={[
          [word("storageClass"), claim.class ?? "–"],
          [word("requested"), bytes(claim.requested)],
          [word("capacity"), bytes(claim.capacity)],
          [word("used"), bytes(volume?.used)],
          [word("accessModes"), claim.access_modes.join(", ") || "–"],
          [word("volumeMode"), claim.volume_mode ?? "–"],
          [word("reclaimPolicy"), claim.reclaim_policy ?? "–"],
          [word("persistentVolume"), claim.persistent_volume ?? "–"],
          [word("volume"), <VolumeLink key="volume" claim={claim} />],
          [word("clients"), volume ? volume.clients.join(", ") || word("nobody") : "–"],
          ...usersOf(claim),
          [
            word("created"),
            created_ms == null ? "–" : `${time(created_ms, language)} (${age(Date.now() - created_ms)})`,
          ],
          [word("kubernetesUid"), claim.uid ?? "–"],
          [
            word("kubernetesReported"),
            claim.reported ? <LastReport key="reported" cluster={cluster} /> : "–",
          ],
        ]}
      />
    </Stack>
  );
}

/** All that is known of claims of one name: of more than one where volumes of older ones are still there. */
export function ClaimDetails({
  claims,
  cluster,
  name,
  close,
}: {
  claims: Claim[];
  cluster: Kubernetes;
  name: string;
  close: () => void;
}) {
  const title = claims[0] ? nameOf(claims[0]) : name;
  return (
    <Modal opened onClose={close} size="lg" title={title} closeButtonProps={{ "aria-label": word("close") }}>
      <Stack gap="lg">
        {claims.length === 0 && (
          <Text size="sm" role="alert">
            {word("claimNone")}
          </Text>
        )}
        {claims.map((claim) => (
          <ClaimFacts key={claim.key} claim={claim} cluster={cluster} />
        ))}
      </Stack>
    </Modal>
  );
}
