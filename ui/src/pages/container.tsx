import { SimpleGrid, Stack, Text } from "@mantine/core";
import { useMemo } from "react";
import { type ContainerRow, containerRows } from "../containers";
import { bytes } from "../format";
import { Walked } from "../home-panels";
import { useLanguage, valueWord, word } from "../i18n";
import { Facts, Fill, Loaded, Page, Panel, State } from "../parts";
import { ACTIVITY, Performance } from "../performance";
import { BUSIEST_MAX, useContainers, useSpace, useVolumes } from "../queries";
import { containerRoute } from "../router";
import type { Container } from "../types";
import { EventsOfContainer } from "../volume-events";
import { TasksOf } from "./tasks";
import { VolumesTable } from "./volumes";

function Policy({ container }: { container: Container }) {
  return (
    <Panel title={word("container")}>
      <Facts
        facts={[
          ["RF", container.rf],
          [word("minCopies"), container.min_copies],
          [word("sync"), word(container.sync === "always" ? "syncAlways" : "syncFlush")],
          [word("compression"), valueWord("compression", container.compression)],
          [word("quota"), bytes(container.quota)],
        ]}
      />
    </Panel>
  );
}

function Usage({ row }: { row: ContainerRow }) {
  const space = useSpace().data;
  const quota = <Fill key="quota" label={word("quotaUsed")} used={row.provisioned} whole={row.quota ?? 0} />;
  return (
    <Panel title={word("used")}>
      <Stack gap="xs">
        <Facts
          facts={[
            [word("volumes"), row.volumes],
            [word("provisioned"), bytes(row.provisioned)],
            [word("quotaUsed"), quota],
            [word("mapped"), bytes(row.mapped)],
            [word("inSnapshots"), bytes(row.inSnapshots)],
            [word("frees"), bytes(row.frees)],
            [word("spaceState"), row.space ? <State key="space" state={row.space} of="space" /> : "–"],
          ]}
        />
        {space && <Walked report={space} />}
      </Stack>
    </Panel>
  );
}

function Details({ container }: { container: Container }) {
  const volumes = useVolumes().data;
  const space = useSpace().data;
  const inside = useMemo(
    () => (volumes ?? []).filter((one) => one.container === container.name),
    [volumes, container.name],
  );
  const [row] = useMemo(
    () => containerRows([container], { volumes, space, busiestMax: BUSIEST_MAX }),
    [container, volumes, space],
  );
  return (
    <>
      <Performance entity={`container/${container.name}`} charts={ACTIVITY} />
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <Policy container={container} />
        {row && <Usage row={row} />}
      </SimpleGrid>
      <Panel title={word("volumes")}>
        <VolumesTable volumes={inside} />
      </Panel>
      <TasksOf subjects={inside.map((one) => `volume/${one.id}`)} />
      <EventsOfContainer container={container} volumes={inside} />
    </>
  );
}

export function ContainerPage() {
  useLanguage();
  const { name } = containerRoute.useParams();
  const query = useContainers();
  return (
    <Page name={name}>
      <Loaded query={query}>
        {(containers) => {
          const container = containers.find((one) => one.name === name);
          if (!container) {
            return <Text role="alert">{word("noSuchContainer")}</Text>;
          }
          return <Details container={container} />;
        }}
      </Loaded>
    </Page>
  );
}
