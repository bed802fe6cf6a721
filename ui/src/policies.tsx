// Policies and thresholds as the nodes run with them.

import { Code, Stack, Text } from "@mantine/core";
import { useMemo } from "react";
import { useLanguage, word } from "./i18n";
import { MEANINGS, policiesOf, rowsOf, type SettingRow } from "./node-settings";
import { Loaded, State } from "./parts";
import { useSettings } from "./queries";
import { AS_GIVEN, type Column, DataTable } from "./table";

/** One value, or each with the nodes that have it. */
function valuesText({ values }: SettingRow): string {
  const [first] = values;
  return values.length === 1 && first
    ? first.value
    : values.map(({ value, nodes }) => `${value}: ${nodes.join(", ")}`).join("; ");
}

function meaningOf({ key }: SettingRow): string | null {
  const meaning = MEANINGS[key];
  return meaning ? word(meaning) : null;
}

function columns(): Column<SettingRow>[] {
  return [
    {
      id: "key",
      title: word("setting"),
      value: (one) => one.key,
      show: (one) => <Code title={one.key}>{one.key}</Code>,
      width: "minmax(210px, 1fr)",
    },
    {
      id: "value",
      title: word("settingValue"),
      value: valuesText,
      show: (one) => (
        <span title={valuesText(one)}>
          {one.values.length > 1 && (
            <>
              <State state="warning">{word("settingsDiffer")}</State>{" "}
            </>
          )}
          {valuesText(one)}
        </span>
      ),
      width: "minmax(130px, 1fr)",
    },
    {
      id: "description",
      title: word("description"),
      value: meaningOf,
      show: (one) => <span title={meaningOf(one) ?? ""}>{meaningOf(one) ?? "–"}</span>,
      width: "minmax(420px, 3fr)",
    },
  ];
}

export function Policies() {
  const language = useLanguage();
  const query = useSettings();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const drawn = useMemo(columns, [language]);
  return (
    <Stack>
      <Text size="sm">{word("policiesHint")}</Text>
      <Loaded query={query}>
        {(settings) => (
          <DataTable
            label={word("policies")}
            rows={rowsOf(policiesOf(settings))}
            columns={drawn}
            id={(one) => one.key}
            order={AS_GIVEN}
          />
        )}
      </Loaded>
    </Stack>
  );
}
