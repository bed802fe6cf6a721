// Where the space goes: what the stores hold, and what each volume and snapshot has of it.

import { Button, SimpleGrid, Stack } from "@mantine/core";
import { useMemo } from "react";
import { refresh } from "../dialogs";
import { bytes, ratio, seconds, signed } from "../format";
import { useLanguage, word } from "../i18n";
import { Facts, Loaded, Page, Panel } from "../parts";
import { useSpace } from "../queries";
import { type Column, DataTable } from "../table";
import type { SpaceReport, Usage } from "../types";

interface Row {
  key: string;
  name: string;
  kind: string;
  container: string;
  usage: Usage;
}

/** Volumes and snapshots together; a snapshot is named after its volume. */
function rows(report: SpaceReport): Row[] {
  const names = new Map(report.volumes.map((one) => [one.id, one.name]));
  const volumes = report.volumes.map((one) => ({
    key: `volume-${one.id}`,
    name: one.name,
    kind: word("volume"),
    container: one.container,
    usage: one.usage,
  }));
  const snapshots = report.snapshots.map((one) => ({
    key: `snapshot-${one.id}`,
    name: `${names.get(one.volume_id ?? 0) ?? `volume-${one.volume_id}`}@${one.name}`,
    kind: word("snapshot"),
    container: one.container,
    usage: one.usage,
  }));
  return [...volumes, ...snapshots];
}

function amount(id: keyof Usage, title: string): Column<Row> {
  return {
    id,
    title,
    value: (row) => row.usage[id] ?? null,
    show: (row) => bytes(row.usage[id]),
    right: true,
  };
}

function columns(): Column<Row>[] {
  return [
    { id: "name", title: word("name"), value: (row) => row.name, width: "minmax(200px, 2fr)" },
    { id: "kind", title: word("ofKind"), value: (row) => row.kind },
    { id: "container", title: word("container"), value: (row) => row.container },
    amount("mapped", word("mapped")),
    amount("shared", word("shared")),
    amount("exclusive", word("exclusive")),
    amount("frees", word("frees")),
    {
      id: "age",
      title: word("spaceAge"),
      value: (row) => row.usage.age_seconds,
      show: (row) => seconds(row.usage.age_seconds),
      right: true,
    },
  ];
}

function Sums({ report }: { report: SpaceReport }) {
  const { physical } = report;
  return (
    <SimpleGrid cols={{ base: 1, md: 2 }}>
      <Panel title={word("spaceWhere")}>
        <Facts
          facts={[
            [word("capacity"), bytes(physical.capacity)],
            [word("used"), bytes(physical.used)],
            [word("spaceData"), bytes(physical.data)],
            [word("spaceUnsettled"), bytes(physical.unsettled)],
            [word("spaceOther"), signed(physical.other)],
            [word("free"), bytes(physical.capacity - physical.used)],
            [word("spaceKept"), bytes(physical.kept_back)],
          ]}
        />
      </Panel>
      <Panel title={word("spaceSaved")}>
        <Facts
          facts={[
            [word("spaceSharing"), report.distinct > 0 ? ratio(report.sharing_hundredths) : "–"],
            [word("spaceCompression"), report.stored > 0 ? ratio(report.compression_hundredths) : "–"],
            [word("mapped"), bytes(report.mapped)],
            [word("written"), bytes(report.distinct)],
            [word("spaceWalked"), `${report.walked} / ${report.lineages}`],
            [word("spaceAge"), seconds(report.age_seconds)],
          ]}
        />
      </Panel>
    </SimpleGrid>
  );
}

export function SpacePage() {
  const language = useLanguage();
  const query = useSpace();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const shown = useMemo(columns, [language]);
  return (
    <Page
      title="space"
      actions={
        <Button size="xs" variant="default" loading={query.isFetching} onClick={() => void refresh("space")}>
          {word("read")}
        </Button>
      }
    >
      <Loaded query={query}>
        {(report) => (
          <Stack>
            <Sums report={report} />
            <DataTable
              label={word("space")}
              rows={rows(report)}
              columns={shown}
              id={(row) => row.key}
              order={{ column: "exclusive", down: true }}
            />
          </Stack>
        )}
      </Loaded>
    </Page>
  );
}
