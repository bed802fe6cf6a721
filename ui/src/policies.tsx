// Policies and thresholds as the nodes run with them.

import { Code, Stack, Table, Text } from "@mantine/core";
import { useLanguage, word } from "./i18n";
import { MEANINGS, rowsOf, type SettingRow } from "./node-settings";
import { Loaded, State } from "./parts";
import { useSettings } from "./queries";

function Values({ values }: { values: SettingRow["values"] }) {
  if (values.length === 1) {
    return <>{values[0]?.value}</>;
  }
  return (
    <Stack gap={2}>
      <State state="warning">{word("settingsDiffer")}</State>
      {values.map(({ value, nodes }) => (
        <Text size="sm" key={value}>
          {value}: {nodes.join(", ")}
        </Text>
      ))}
    </Stack>
  );
}

export function Policies() {
  useLanguage();
  const query = useSettings();
  return (
    <Stack>
      <Text size="sm">{word("policiesHint")}</Text>
      <Loaded query={query}>
        {(settings) => (
          <Table striped aria-label={word("policies")}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{word("setting")}</Table.Th>
                <Table.Th>{word("settingValue")}</Table.Th>
                <Table.Th>{word("description")}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {rowsOf(settings).map(({ key, values }) => {
                const meaning = MEANINGS[key];
                return (
                  <Table.Tr key={key}>
                    <Table.Td>
                      <Code>{key}</Code>
                    </Table.Td>
                    <Table.Td>
                      <Values values={values} />
                    </Table.Td>
                    <Table.Td>{meaning ? word(meaning) : "–"}</Table.Td>
                  </Table.Tr>
                );
              })}
            </Table.Tbody>
          </Table>
        )}
      </Loaded>
    </Stack>
  );
}
