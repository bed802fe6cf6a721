// Questions before something is done, and what is asked for.

import {
  Alert,
  Button,
  Group,
  Modal,
  NumberInput,
  Select,
  Stack,
  Text,
  Textarea,
  TextInput,
} from "@mantine/core";
import { type FormEvent, type ReactNode, useState } from "react";
import { ApiError, call, get, onTopOf, path } from "./api";
import { bytes, parseBytes } from "./format";
import { freesOfSnapshots, freesOfVolumes } from "./frees";
import { wholeGroups } from "./groups-of-snapshots";
import { valueWord, word } from "./i18n";
import { complain, reason, tell } from "./parts";
import { client, useContainers, useGroupSnapshots } from "./queries";
import type { Container, GroupSnapshot, Snapshot, Volume } from "./types";
import { WillFree } from "./will-free";

/** A dialog with a form; stays open and says why when it cannot be done. */
export function Form(props: {
  title: string;
  submit: string;
  danger?: boolean;
  close: () => void;
  act: () => Promise<void>;
  children?: ReactNode;
}) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await props.act();
      props.close();
    } catch (error) {
      setProblem(reason(error));
      setBusy(false);
    }
  };
  return (
    <Modal
      opened
      onClose={props.close}
      title={props.title}
      closeButtonProps={{ "aria-label": word("close") }}
    >
      <form onSubmit={(event) => void submit(event)}>
        <Stack gap="sm">
          {props.children}
          {problem && (
            <Alert color="red" variant="outline" role="alert">
              {problem}
            </Alert>
          )}
          <Group justify="flex-end">
            <Button variant="default" onClick={props.close}>
              {word("cancel")}
            </Button>
            <Button type="submit" loading={busy} color={props.danger ? "red" : undefined}>
              {props.submit}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

export async function refresh(...keys: string[]): Promise<void> {
  await Promise.all(keys.map((key) => client.invalidateQueries({ queryKey: [key] })));
}

/** The size of a text, or an error for a person. */
export function sizeOf(text: string): number {
  const size = parseBytes(text);
  if (size === null) {
    throw new Error(word("sizeOdd"));
  }
  return size;
}

/** The version that a form was opened with: it may change while the form is filled in. */
function useOpenedWith(of: { version?: number | null } | undefined): number | null {
  return useState(of?.version ?? null)[0];
}

/** Changes something on top of a version. Where somebody else did meanwhile nothing is done, and what it is now is read. */
async function change(method: string, where: string, body: unknown, version: number | null): Promise<void> {
  try {
    await call(method, where, body, onTopOf(version));
  } catch (error) {
    if (version !== null && error instanceof ApiError && error.kind === "changed") {
      await refresh("volume", "containers");
      throw new Error(word("changedMeanwhile"));
    }
    throw error;
  }
}

interface Close {
  close: () => void;
}

export function CreateVolume({ close, from }: Close & { from?: { volume: string; snapshot?: string } }) {
  const containers = useContainers().data ?? [];
  const [name, setName] = useState("");
  const [container, setContainer] = useState<string | null>(from ? null : (containers[0]?.name ?? null));
  const [size, setSize] = useState("");
  const [description, setDescription] = useState("");
  const act = async () => {
    await call("POST", "/volumes", {
      name: name.trim(),
      container,
      size: from && size === "" ? null : sizeOf(size),
      description: description === "" ? null : description,
      from: from ?? null,
    });
    tell(`${word("createVolume")}: ${name}`);
    await refresh("volumes", "containers");
  };
  const origin = from && [from.volume, from.snapshot].filter(Boolean).join("@");
  return (
    <Form
      title={origin ? `${word("cloneOf")} ${origin}` : word("createVolume")}
      submit={word("create")}
      close={close}
      act={act}
    >
      <TextInput
        label={word("name")}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <Select
        label={word("container")}
        required={!from}
        allowDeselect={!!from}
        clearable={!!from}
        data={containers.map((one) => one.name)}
        value={container}
        onChange={setContainer}
      />
      <TextInput
        label={word("size")}
        description={word("sizeHint")}
        required={!from}
        value={size}
        onChange={(event) => setSize(event.currentTarget.value)}
      />
      <Textarea
        label={word("description")}
        value={description}
        onChange={(event) => setDescription(event.currentTarget.value)}
      />
    </Form>
  );
}

export function ResizeVolume({ close, volume }: Close & { volume: Volume }) {
  const version = useOpenedWith(volume);
  const [size, setSize] = useState(bytes(volume.size));
  const act = async () => {
    await change("POST", `/volumes${path(volume.name)}/resize`, { size: sizeOf(size) }, version);
    tell(`${word("resize")}: ${volume.name}`);
    await refresh("volumes", "volume", "containers");
  };
  return (
    <Form title={`${word("resize")}: ${volume.name}`} submit={word("resize")} close={close} act={act}>
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

/** What can be changed of a volume while it is used. */
export function EditVolume({ close, volume }: Close & { volume: Volume }) {
  const version = useOpenedWith(volume);
  const [description, setDescription] = useState(volume.description ?? "");
  const [iops, setIops] = useState<string | number>(volume.iops_limit ?? "");
  const [bandwidth, setBandwidth] = useState(volume.bandwidth_limit ? bytes(volume.bandwidth_limit) : "");
  const act = async () => {
    const changes = {
      description,
      iops_limit: Number(iops) || 0,
      bandwidth_limit: bandwidth === "" ? 0 : sizeOf(bandwidth),
    };
    await change("PATCH", `/volumes${path(volume.name)}`, changes, version);
    tell(`${word("edit")}: ${volume.name}`);
    await refresh("volumes", "volume");
  };
  return (
    <Form title={`${word("edit")}: ${volume.name}`} submit={word("save")} close={close} act={act}>
      <Textarea
        label={word("description")}
        value={description}
        onChange={(event) => setDescription(event.currentTarget.value)}
      />
      <NumberInput
        label={word("iopsLimit")}
        placeholder={word("noLimit")}
        min={0}
        value={iops}
        onChange={setIops}
      />
      <TextInput
        label={word("bandwidthLimit")}
        placeholder={word("noLimit")}
        value={bandwidth}
        onChange={(event) => setBandwidth(event.currentTarget.value)}
      />
    </Form>
  );
}

export function TakeSnapshot({ close, volumes }: Close & { volumes: string[] }) {
  const [name, setName] = useState("");
  const act = async () => {
    await each(volumes, (volume) => call("POST", `/volumes${path(volume)}/snapshots`, { name: name.trim() }));
    await refresh("snapshots");
  };
  return (
    <Form
      title={`${word("takeSnapshot")}: ${volumes.join(", ")}`}
      submit={word("takeSnapshot")}
      close={close}
      act={act}
    >
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

/** More of the same are only counted. */
const COMPLAINTS_MAX = 5;

/** Does something with each of several; those that failed are told. Fails when none was done. */
export async function each<T>(items: T[], act: (item: T) => Promise<unknown>): Promise<void> {
  const results = await Promise.allSettled(items.map(act));
  const failed = results.filter((result) => result.status === "rejected");
  if (failed.length === items.length && failed[0]) {
    throw failed[0].reason;
  }
  tell(word("doneFor", items.length - failed.length, items.length));
  for (const result of failed.slice(0, COMPLAINTS_MAX)) {
    complain(result.reason);
  }
  if (failed.length > COMPLAINTS_MAX) {
    complain(new Error(word("failedMore", failed.length - COMPLAINTS_MAX)));
  }
}

export function DeleteVolumes({ close, volumes, after }: Close & { volumes: Volume[]; after?: () => void }) {
  const act = async () => {
    await each(volumes, (volume) => call("DELETE", `/volumes${path(volume.name)}`));
    await refresh("volumes", "containers");
    after?.();
  };
  const mapped = volumes.reduce((sum, volume) => sum + volume.mapped, 0);
  return (
    <Form title={word("delete")} submit={word("delete")} danger close={close} act={act}>
      <Text size="sm">{word("deleteVolumes")}</Text>
      <Text size="sm" fw={600}>
        {volumes.map((volume) => volume.name).join(", ")}
      </Text>
      <Text size="sm" c="dimmed">
        {word("willFree", bytes(mapped))}
      </Text>
      <WillFree
        what={volumes.map((volume) => `volume/${volume.id}`).join()}
        read={() => freesOfVolumes(volumes)}
      />
    </Form>
  );
}

export function DeleteSnapshots({ close, snapshots }: Close & { snapshots: Snapshot[] }) {
  const grouped = snapshots.some((one) => one.group !== null);
  const groups = useGroupSnapshots(grouped).data ?? [];
  const act = async () => {
    // As they are now: a group that is gone or has grown meanwhile is not what was chosen.
    const now = grouped ? await get<GroupSnapshot[]>("/group-snapshots") : [];
    const { whole, single } = wholeGroups(snapshots, now);
    const places = [
      ...whole.map((one) => `/group-snapshots${path(one.id)}`),
      ...single.map((one) => `/volumes${path(`volume-${one.volume_id}`)}/snapshots${path(one.name)}`),
    ];
    await each(places, (where) => call("DELETE", where));
    await refresh("snapshots", "group-snapshots", "tasks");
  };
  const { whole } = wholeGroups(snapshots, groups);
  return (
    <Form title={word("delete")} submit={word("delete")} danger close={close} act={act}>
      <Text size="sm">{word("deleteSnapshots")}</Text>
      <Text size="sm" fw={600}>
        {snapshots.map((one) => `${one.volume ?? `volume-${one.volume_id}`}@${one.name}`).join(", ")}
      </Text>
      {whole.length > 0 && (
        <Text size="sm">{word("deleteGroups", whole.map((one) => one.name).join(", "))}</Text>
      )}
      <WillFree
        what={snapshots.map((one) => `snapshot/${one.id}`).join()}
        read={() => freesOfSnapshots(snapshots)}
      />
    </Form>
  );
}

export function RestoreVolume({ close, volume, snapshot }: Close & { volume: string; snapshot: string }) {
  const act = async () => {
    await call("POST", `/volumes${path(volume)}/restore`, { snapshot });
    tell(`${word("restore")}: ${volume}@${snapshot}`);
    await refresh("volumes", "volume");
  };
  return (
    <Form
      title={`${word("restore")}: ${volume}@${snapshot}`}
      submit={word("restore")}
      danger
      close={close}
      act={act}
    >
      <Text size="sm">{word("restoreHint")}</Text>
    </Form>
  );
}

/** Ends the quarantine of a volume. */
export function ReleaseVolume({ close, volume }: Close & { volume: string }) {
  const act = async () => {
    await call("POST", `/volumes${path(volume)}/release`, {});
    tell(`${word("releaseVolume")}: ${volume}`);
    await refresh("volumes", "volume", "events", "alerts");
  };
  return (
    <Form
      title={`${word("releaseVolume")}: ${volume}`}
      submit={word("releaseVolume")}
      danger
      close={close}
      act={act}
    >
      <Text size="sm">{word("releaseVolumeHint")}</Text>
    </Form>
  );
}

/** A container, new or as it is. */
export function ContainerForm({ close, container }: Close & { container?: Container }) {
  const version = useOpenedWith(container);
  const [name, setName] = useState(container?.name ?? "");
  const [rf, setRf] = useState<string | null>(String(container?.rf ?? 2));
  const [least, setLeast] = useState<string | null>(
    container ? (container.strict ? "strict" : String(container.min_copies)) : "",
  );
  const [sync, setSync] = useState<string | null>(container?.sync ?? "flush");
  const [compression, setCompression] = useState<string | null>(container?.compression ?? "lz4");
  const [quota, setQuota] = useState(container?.quota ? bytes(container.quota) : "");
  const act = async () => {
    const policy = {
      rf: Number(rf),
      min_copies: least === "" || least === null ? null : least === "strict" ? "strict" : Number(least),
      sync,
      compression,
      quota: quota === "" ? (container ? 0 : null) : sizeOf(quota),
    };
    if (container) {
      await change("PATCH", `/containers${path(container.name)}`, policy, version);
    } else {
      await call("POST", "/containers", { name: name.trim(), ...policy });
    }
    tell(`${word("container")}: ${name}`);
    await refresh("containers");
  };
  const copies = ["1", "2", "3"];
  return (
    <Form
      title={container ? `${word("edit")}: ${container.name}` : word("createContainer")}
      submit={word(container ? "save" : "create")}
      close={close}
      act={act}
    >
      {!container && (
        <TextInput
          label={word("name")}
          required
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
      )}
      <Select label={word("rf")} data={copies} allowDeselect={false} value={rf} onChange={setRf} />
      <Select
        label={word("minCopies")}
        clearable
        data={[...copies, { value: "strict", label: word("strict") }]}
        value={least}
        onChange={setLeast}
      />
      <Select
        label={word("sync")}
        allowDeselect={false}
        data={[
          { value: "flush", label: word("syncFlush") },
          { value: "always", label: word("syncAlways") },
        ]}
        value={sync}
        onChange={setSync}
      />
      <Select
        label={word("compression")}
        allowDeselect={false}
        data={["lz4", "off"].map((value) => ({ value, label: valueWord("compression", value) }))}
        value={compression}
        onChange={setCompression}
      />
      <TextInput
        label={word("quota")}
        description={word("quotaHint")}
        value={quota}
        onChange={(event) => setQuota(event.currentTarget.value)}
      />
    </Form>
  );
}
