// Storage classes of a Kubernetes cluster, and a form that makes the text of another.

import { Stack, Table, Text } from "@mantine/core";
import { ClassForm } from "../class-form";
import { word } from "../i18n";
import { Panel } from "../parts";
import type { Kubernetes, StorageClass } from "../types";

const parametersOf = (one: StorageClass) =>
  Object.entries(one.parameters).map(([key, value]) => `${key}=${value}`);

function Row({ one }: { one: StorageClass }) {
  return (
    <Table.Tr>
      <Table.Td>{one.name}</Table.Td>
      <Table.Td>{one.default ? "✓" : ""}</Table.Td>
      <Table.Td style={{ overflowWrap: "anywhere" }}>{parametersOf(one).join(", ") || "–"}</Table.Td>
      <Table.Td>{one.reclaim_policy || "–"}</Table.Td>
      <Table.Td>{one.binding_mode || "–"}</Table.Td>
      <Table.Td>{one.expansion ? "✓" : ""}</Table.Td>
      <Table.Td>{one.mount_options.join(", ") || "–"}</Table.Td>
    </Table.Tr>
  );
}

function ClassTable({ classes }: { classes: StorageClass[] }) {
  return (
    <Table.ScrollContainer minWidth={800} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
      <Table striped aria-label={word("storageClasses")}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>{word("name")}</Table.Th>
            <Table.Th>{word("classDefault")}</Table.Th>
            <Table.Th>{word("classParameters")}</Table.Th>
            <Table.Th>{word("reclaimPolicy")}</Table.Th>
            <Table.Th>{word("classBinding")}</Table.Th>
            <Table.Th>{word("classExpansion")}</Table.Th>
            <Table.Th>{word("classMountOptions")}</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {classes.map((one) => (
            <Row key={one.name} one={one} />
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

export function Classes({ cluster }: { cluster: Kubernetes }) {
  const { classes, reported_ms } = cluster;
  return (
    <Stack>
      <Panel title={word("storageClasses")}>
        {classes.length > 0 ? (
          <ClassTable classes={classes} />
        ) : (
          <Text size="sm">{word(reported_ms == null ? "classesUnknown" : "classesNone")}</Text>
        )}
      </Panel>
      <ClassForm taken={classes.map((one) => one.name)} />
    </Stack>
  );
}
