// The placement groups as a table: which stores hold the same data, and what is missing.

import { useMemo } from "react";
import { bytes } from "./format";
import { useLanguage, valueWord, word } from "./i18n";
import { Loaded, State } from "./parts";
import { placementText } from "./placement";
import { usePlacementGroups } from "./queries";
import { type Column, DataTable } from "./table";
import type { PlacementGroup } from "./types";

function number(id: "rf" | "missing" | "generation", title: string): Column<PlacementGroup> {
  return { id, title, value: (one) => one[id], right: true, width: "minmax(110px, 0.5fr)" };
}

function stores(id: "members" | "former", title: string): Column<PlacementGroup> {
  return {
    id,
    title,
    value: (one) => placementText(one[id]) || null,
    show: (one) => <span title={placementText(one[id])}>{placementText(one[id]) || "–"}</span>,
    width: "minmax(180px, 1.5fr)",
  };
}

function drawn(): Column<PlacementGroup>[] {
  return [
    {
      id: "id",
      title: word("placementGroup"),
      value: (one) => one.id,
      right: true,
      width: "minmax(85px, 0.4fr)",
    },
    {
      id: "state",
      title: word("state"),
      value: (one) => valueWord("placement", one.state),
      show: (one) => <State state={one.state} of="placement" />,
      width: "minmax(110px, 0.6fr)",
    },
    number("rf", word("placementRf")),
    number("missing", word("placementMissing")),
    {
      id: "bytes",
      title: word("placementBytes"),
      value: (one) => one.bytes,
      show: (one) => bytes(one.bytes),
      right: true,
    },
    stores("members", word("placementMembers")),
    stores("former", word("placementFormer")),
    number("generation", word("placementGeneration")),
  ];
}

export function GroupsTable() {
  const language = useLanguage();
  const query = usePlacementGroups();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const columns = useMemo(drawn, [language]);
  return (
    <Loaded query={query}>
      {(groups) => (
        <DataTable label={word("placement")} rows={groups} columns={columns} id={(one) => String(one.id)} />
      )}
    </Loaded>
  );
}
