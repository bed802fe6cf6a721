// What is done with several volumes at once, and what is asked before.

import { NumberInput, Text, TextInput } from "@mantine/core";
import { useState } from "react";
import { call, path } from "./api";
import { attachments, changesOf, growing } from "./bulk";
import { each, Form, refresh, sizeOf } from "./dialogs";
import { word } from "./i18n";
import { tell } from "./parts";
import type { Volume } from "./types";

/** The API takes a point in time of so many volumes at most. */
export const GROUP_MAX = 64;

interface Props {
  volumes: Volume[];
  close: () => void;
  /** When it was done. */
  after?: () => void;
}

function Names({ names }: { names: string[] }) {
  return (
    <Text size="sm" fw={600} style={{ overflowWrap: "anywhere" }}>
      {names.join(", ")}
    </Text>
  );
}

/** One point in time of all of them: every member is a snapshot of that name. */
export function TakeGroupSnapshot({ volumes, close, after }: Props) {
  const [name, setName] = useState("");
  const act = async () => {
    await call("POST", "/group-snapshots", {
      name: name.trim(),
      volumes: volumes.map((volume) => volume.name),
    });
    tell(`${word("groupSnapshot")}: ${name.trim()} (${volumes.length})`);
    await refresh("snapshots", "group-snapshots");
    after?.();
  };
  return (
    <Form title={word("groupSnapshot")} submit={word("groupSnapshot")} close={close} act={act}>
      <Text size="sm">{word("groupSnapshotHint")}</Text>
      <Names names={volumes.map((volume) => volume.name)} />
      <TextInput
        label={word("name")}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
    </Form>
  );
}

/** Grows those that are smaller; the others stay as they are. */
export function ResizeVolumes({ volumes, close, after }: Props) {
  const [size, setSize] = useState("");
  const act = async () => {
    const bytes = sizeOf(size);
    const some = growing(volumes, bytes);
    if (some.length === 0) {
      throw new Error(word("resizeNone"));
    }
    await each(some, (volume) => call("POST", `/volumes${path(volume.name)}/resize`, { size: bytes }));
    await refresh("volumes", "volume", "containers");
    after?.();
  };
  return (
    <Form title={word("resize")} submit={word("resize")} close={close} act={act}>
      <Text size="sm">{word("resizeHint")}</Text>
      <Names names={volumes.map((volume) => volume.name)} />
      <TextInput
        label={word("newSize")}
        description={word("sizeHint")}
        required
        data-autofocus
        value={size}
        onChange={(event) => setSize(event.currentTarget.value)}
      />
    </Form>
  );
}

/** Limits of all of them; a field that is left empty changes nothing. */
export function LimitVolumes({ volumes, close, after }: Props) {
  const [iops, setIops] = useState<string | number>("");
  const [bandwidth, setBandwidth] = useState("");
  const act = async () => {
    const changes = changesOf(iops, bandwidth.trim() === "" ? null : sizeOf(bandwidth));
    if (Object.keys(changes).length === 0) {
      throw new Error(word("limitsNone"));
    }
    await each(volumes, (volume) => call("PATCH", `/volumes${path(volume.name)}`, changes));
    await refresh("volumes", "volume");
    after?.();
  };
  return (
    <Form title={word("limitsSet")} submit={word("save")} close={close} act={act}>
      <Text size="sm">{word("limitsHint")}</Text>
      <Names names={volumes.map((volume) => volume.name)} />
      <NumberInput
        label={word("iopsLimit")}
        placeholder={word("limitStays")}
        min={0}
        data-autofocus
        value={iops}
        onChange={setIops}
      />
      <TextInput
        label={word("bandwidthLimit")}
        placeholder={word("limitStays")}
        value={bandwidth}
        onChange={(event) => setBandwidth(event.currentTarget.value)}
      />
    </Form>
  );
}

/** Takes every client's right to them away. */
export function DetachVolumes({ volumes, close, after }: Props) {
  const all = attachments(volumes);
  const act = async () => {
    await each(all, ({ volume, client }) => call("POST", `/volumes${path(volume)}/detach`, { client }));
    await refresh("volumes", "volume");
    after?.();
  };
  return (
    <Form title={word("detach")} submit={word("detach")} danger close={close} act={act}>
      <Text size="sm">{word("detachHint")}</Text>
      <Names names={all.map(({ volume, client }) => `${volume} (${client})`)} />
    </Form>
  );
}
