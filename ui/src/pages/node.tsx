import { SimpleGrid, Text } from "@mantine/core";
import { DisksTable } from "../disks-table";
import { bytes, count } from "../format";
import { useLanguage, word } from "../i18n";
import { Facts, Loaded, Page, Panel, State } from "../parts";
import { NODE, Performance, STORE } from "../performance";
import { useBusiest, useCluster, useStores } from "../queries";
import { nodeRoute } from "../router";
import { TasksOf } from "./tasks";

export function NodePage() {
  useLanguage();
  const { name } = nodeRoute.useParams();
  const query = useCluster();
  const stores = useStores().data ?? [];
  const now = useBusiest().data?.nodes.find((node) => node.name === name);
  return (
    <Page name={name}>
      <Loaded query={query}>
        {({ nodes }) => {
          const node = nodes.find((one) => one.name === name);
          if (!node) {
            return <Text role="alert">{word("noSuchNode")}</Text>;
          }
          const own = stores.filter((store) => store.node === node.id);
          const subjects = [`node/${node.id}`, ...own.map((store) => `store/${store.id}`)];
          return (
            <>
              <TasksOf subjects={subjects} />
              <Performance entity={`node/${name}`} charts={NODE} />
              <SimpleGrid cols={{ base: 1, md: 2 }}>
                <Panel title={word("node")}>
                  <Facts
                    facts={[
                      [
                        word("state"),
                        <State key="state" state={node.alive ? "alive" : "away"}>
                          {word(node.alive ? "alive" : "away")}
                        </State>,
                      ],
                      [word("release"), node.release || "–"],
                      [word("address"), node.address],
                      ["API", node.api ?? "–"],
                      ["NBD", node.nbd ?? "–"],
                      [word("volumes"), now?.volumes ?? "–"],
                      [
                        word("processor"),
                        now?.cpu_percent == null ? "–" : `${count(now.cpu_percent)} % ${word("ofOneCore")}`,
                      ],
                      [word("memory"), bytes(now?.resident)],
                    ]}
                  />
                </Panel>
              </SimpleGrid>
              <Panel title={word("disks")}>
                <DisksTable node={name} />
              </Panel>
              {own.map((store) => (
                <Performance
                  key={store.id}
                  entity={`store/${store.id}`}
                  charts={STORE}
                  title={`store-${store.id}`}
                />
              ))}
            </>
          );
        }}
      </Loaded>
    </Page>
  );
}
