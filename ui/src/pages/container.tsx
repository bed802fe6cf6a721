import { SimpleGrid, Text } from "@mantine/core";
import { bytes } from "../format";
import { useLanguage, word } from "../i18n";
import { Facts, Loaded, Page, Panel } from "../parts";
import { ACTIVITY, Performance } from "../performance";
import { useContainers } from "../queries";
import { containerRoute } from "../router";

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
          return (
            <>
              <Performance entity={`container/${name}`} charts={ACTIVITY} />
              <SimpleGrid cols={{ base: 1, md: 2 }}>
                <Panel title={word("container")}>
                  <Facts
                    facts={[
                      ["RF", container.rf],
                      [word("minCopies"), container.min_copies],
                      [word("sync"), word(container.sync === "always" ? "syncAlways" : "syncFlush")],
                      [word("compression"), container.compression],
                      [word("volumes"), container.volumes],
                      [word("provisioned"), bytes(container.provisioned)],
                      [word("quota"), bytes(container.quota)],
                    ]}
                  />
                </Panel>
              </SimpleGrid>
            </>
          );
        }}
      </Loaded>
    </Page>
  );
}
