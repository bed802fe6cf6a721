// A form that makes the text of a storage class: what the driver would refuse is said beside the field.

import { Button, Checkbox, Group, Select, SimpleGrid, Stack, Text, Textarea, TextInput } from "@mantine/core";
import { useClipboard } from "@mantine/hooks";
import { useState } from "react";
import { save } from "./format";
import { type Word, word } from "./i18n";
import { Panel } from "./parts";
import { useContainers } from "./queries";
import { CLASS_AT_FIRST, type ClassFields, problemsOf, yamlOf } from "./storage-class";

type TextField = "name" | "iopsLimit" | "bandwidthLimit" | "mountOptions";
type ChoiceField =
  | "container"
  | "fileSystem"
  | "copies"
  | "compression"
  | "sync"
  | "attach"
  | "reclaimPolicy"
  | "binding";

interface Choice {
  value: string;
  label: string;
}

const plain = (...values: string[]): Choice[] => values.map((value) => ({ value, label: value }));
const open = (): Choice => ({ value: "", label: word("classLeftOpen") });

/** What may be chosen, beside containers. */
function choices(): Record<Exclude<ChoiceField, "container">, Choice[]> {
  return {
    fileSystem: plain("ext4", "xfs"),
    copies: [open(), ...plain("2", "3")],
    compression: [open(), ...plain("lz4", "off")],
    sync: [
      open(),
      { value: "flush", label: word("syncFlush") },
      { value: "always", label: word("syncAlways") },
    ],
    attach: [open(), ...plain("auto", "local")],
    reclaimPolicy: plain("Delete", "Retain"),
    binding: plain("Immediate", "WaitForFirstConsumer"),
  };
}

/** The text, with what can be done with it. */
function Made({ name, text }: { name: string; text: string }) {
  const clipboard = useClipboard();
  return (
    <Stack gap="xs">
      <Textarea
        label={word("classText")}
        readOnly
        autosize
        minRows={10}
        value={text}
        placeholder={word("classIncomplete")}
        styles={{ input: { fontFamily: "monospace" } }}
      />
      <Group gap="xs">
        <Button variant="default" disabled={text === ""} onClick={() => clipboard.copy(text)}>
          {word("copy")}
        </Button>
        <Button
          variant="default"
          disabled={text === ""}
          onClick={() => save(`${name}.yaml`, "application/yaml", text)}
        >
          {word("download")}
        </Button>
        <Text size="sm" role="status">
          {clipboard.error ? word("copyFailed") : clipboard.copied ? word("copied") : ""}
        </Text>
      </Group>
    </Stack>
  );
}

/** A class of another name than those that are there. */
export function ClassForm({ taken }: { taken: string[] }) {
  const containers = useContainers().data ?? [];
  const [fields, setFields] = useState(CLASS_AT_FIRST);
  const set = (changed: Partial<ClassFields>) => setFields({ ...fields, ...changed });
  const problems = problemsOf(fields, containers, taken);
  const problemOf = (field: keyof ClassFields) => {
    const found = problems.find((one) => one.field === field);
    // A name that nobody has begun to type is missing, and not wrong.
    return found && !(field === "name" && fields.name === "") ? word(found.word, ...found.values) : undefined;
  };
  const offered = choices();
  const typed = (field: TextField, label: Word, description?: Word) => (
    <TextInput
      label={word(label)}
      description={description && word(description)}
      required={field === "name"}
      autoComplete="off"
      value={fields[field]}
      error={problemOf(field)}
      onChange={(event) => set({ [field]: event.currentTarget.value })}
    />
  );
  const chosen = (field: ChoiceField, label: Word, data: Choice[], description?: Word) => (
    <Select
      label={word(label)}
      description={description && word(description)}
      data={data}
      allowDeselect={false}
      value={fields[field]}
      error={problemOf(field)}
      onChange={(value) => set({ [field]: value ?? "" })}
    />
  );
  const ticked = (field: "standard" | "expansion", label: Word) => (
    <Checkbox
      label={word(label)}
      checked={fields[field]}
      onChange={(event) => set({ [field]: event.currentTarget.checked })}
    />
  );
  const names = containers.map((one) => one.name);
  return (
    <Panel title={word("classMake")}>
      <Text size="sm" c="dimmed" mb="sm">
        {word("classMakeHint")}
      </Text>
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Stack gap="sm">
          {typed("name", "name")}
          <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="sm">
            {chosen("container", "container", [open(), ...plain(...names)])}
            {chosen("fileSystem", "classFileSystem", offered.fileSystem)}
            {chosen("copies", "rf", offered.copies)}
            {chosen("compression", "compression", offered.compression)}
            {chosen("sync", "sync", offered.sync)}
            {chosen("attach", "classAttach", offered.attach)}
            {typed("iopsLimit", "iopsLimit", "classIopsHint")}
            {typed("bandwidthLimit", "bandwidthLimit", "classBandwidthHint")}
            {chosen("reclaimPolicy", "reclaimPolicy", offered.reclaimPolicy, "classReclaimHint")}
            {chosen("binding", "classBinding", offered.binding, "classBindingHint")}
          </SimpleGrid>
          {typed("mountOptions", "classMountOptions", "classMountHint")}
          <Group>
            {ticked("standard", "classIsDefault")}
            {ticked("expansion", "classExpansion")}
          </Group>
        </Stack>
        <Made name={fields.name.trim()} text={problems.length === 0 ? yamlOf(fields) : ""} />
      </SimpleGrid>
    </Panel>
  );
}
