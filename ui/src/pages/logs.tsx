// What the nodes' programs say: recent lines, about a volume, a task or a request.

import { Alert, Button, Group, Select, Stack, Switch, Text, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useMemo, useState } from "react";
import { get } from "../api";
import { exactTime, time } from "../format";
import { useLanguage, valueWord, word } from "../i18n";
import { useStream } from "../live";
import {
  followed,
  followPath,
  LEVELS,
  type LogSearch,
  lineId,
  logPath,
  pairs,
  searchOf,
  whose,
} from "../logs";
import { Loaded, Page, State } from "../parts";
import { useCluster } from "../queries";
import { type Column, DataTable } from "../table";
import type { LogLine, Logs } from "../types";

function columns(language: string): Column<LogLine>[] {
  return [
    {
      id: "at",
      title: word("when"),
      value: (one) => one.at_ms,
      show: (one) => exactTime(one.at_ms, language),
      width: "minmax(190px, 0.8fr)",
    },
    {
      id: "level",
      title: word("severity"),
      value: (one) => valueWord("level", one.level),
      show: (one) => <State state={one.level} of="level" />,
      width: "minmax(100px, 0.4fr)",
    },
    {
      id: "node",
      title: word("node"),
      value: whose,
      show: (one) => (
        <span title={one.origin ? `${whose(one)} (${one.origin.by})` : one.node}>{whose(one)}</span>
      ),
      width: "minmax(100px, 0.5fr)",
    },
    {
      id: "message",
      title: word("message"),
      value: (one) => one.message,
      show: (one) => <span title={one.message}>{one.message}</span>,
      width: "minmax(260px, 2fr)",
    },
    {
      id: "fields",
      title: word("about"),
      value: (one) => pairs(one.fields),
      show: (one) => <span title={pairs(one.fields)}>{pairs(one.fields)}</span>,
      width: "minmax(320px, 3fr)",
    },
    { id: "target", title: word("logTarget"), value: (one) => one.target, width: "minmax(160px, 1fr)" },
  ];
}

/** Conditions, which count once they are asked for. */
function Conditions({ search, ask }: { search: LogSearch; ask: (search: LogSearch) => void }) {
  const [wanted, setWanted] = useState(search);
  const nodes = useCluster().data?.nodes ?? [];
  const text = (name: "volume" | "task" | "request" | "text", label: string) => (
    <TextInput
      label={label}
      size="xs"
      value={wanted[name] ?? ""}
      onChange={(event) => setWanted({ ...wanted, [name]: event.currentTarget.value })}
    />
  );
  const submit = (event: FormEvent) => {
    event.preventDefault();
    ask(searchOf({ ...wanted }));
  };
  return (
    <form onSubmit={submit}>
      <Group align="end" gap="xs">
        {text("volume", word("volume"))}
        {text("task", word("taskNumber"))}
        {text("request", word("logRequest"))}
        {text("text", word("logText"))}
        <Select
          label={word("node")}
          size="xs"
          clearable
          data={nodes.map((node) => node.name)}
          value={wanted.node ?? null}
          onChange={(node) => setWanted({ ...wanted, node: node ?? undefined })}
        />
        <Select
          label={word("logLevel")}
          size="xs"
          clearable
          data={LEVELS.map((value) => ({ value, label: valueWord("level", value) }))}
          value={wanted.level ?? null}
          onChange={(level) => setWanted({ ...wanted, level: level ?? undefined })}
        />
        <Button type="submit" size="xs">
          {word("logSearch")}
        </Button>
      </Group>
    </form>
  );
}

export function LogsPage() {
  const language = useLanguage();
  const search = useSearch({ from: "/logs" });
  const navigate = useNavigate();
  // Read once, and again when it is asked for; what comes then is told, from the newest line on.
  const query = useQuery({
    queryKey: ["logs", search],
    queryFn: () => get<Logs>(logPath(search)),
    staleTime: 0,
  });
  const client = useQueryClient();
  const [follow, setFollow] = useState(true);
  const asked = JSON.stringify(search);
  const [began, setBegan] = useState<{ asked: string; where: string } | null>(null);
  if (follow && query.isSuccess && !query.isFetching && began?.asked !== asked) {
    setBegan({ asked, where: followPath(search, query.data) });
  }
  const heard = (came: Logs) => {
    client.setQueryData<Logs>(["logs", search], (known) => known && followed(known, came));
  };
  const refused = useStream(follow && began?.asked === asked ? began.where : null, "lines", heard);
  const shown = useMemo(() => columns(language), [language]);
  const ask = (wanted: LogSearch) => {
    void navigate({ to: "/logs", search: wanted });
    void query.refetch();
  };
  return (
    <Page title="logs">
      <Stack gap="md">
        <Conditions key={JSON.stringify(search)} search={search} ask={ask} />
        <Switch
          label={word("logFollow")}
          checked={follow}
          onChange={(event) => {
            setFollow(event.currentTarget.checked);
            setBegan(null);
          }}
        />
        {refused && (
          <Alert color="yellow" role="status">
            {word("logRefused")}
          </Alert>
        )}
        <Loaded query={query}>
          {(logs) => (
            <>
              <Text size="xs" c="dimmed">
                {word("logSince", time(logs.since_ms, language))}
                {logs.more && ` ${word("logMore")}`}
                {logs.silent.length > 0 && ` ${word("logSilent", logs.silent.join(", "))}`}
              </Text>
              {logs.lines.length === 0 ? (
                <Text>{word("logNone")}</Text>
              ) : (
                <DataTable
                  label={word("logs")}
                  rows={logs.lines}
                  columns={shown}
                  id={lineId}
                  order={{ column: "at", down: true }}
                />
              )}
            </>
          )}
        </Loaded>
      </Stack>
    </Page>
  );
}
