// Tokens for programs: a table of them, and how one is made and taken away.

import {
  Alert,
  Button,
  Code,
  CopyButton,
  Group,
  MultiSelect,
  Select,
  Stack,
  TagsInput,
  Text,
  TextInput,
} from "@mantine/core";
import { useMemo, useState } from "react";
import { call, path } from "../api";
import { Form, refresh } from "../dialogs";
import { time } from "../format";
import { useLanguage, valueWord, word } from "../i18n";
import { Loaded, tell } from "../parts";
import { useContainers, useKubernetes, useTokens } from "../queries";
import { type Column, DataTable } from "../table";
import type { Scope, Token } from "../types";

const SCOPES: Scope[] = ["viewer", "operator", "admin", "csi", "client"];

function CreateToken({ close, made }: { close: () => void; made: (token: Token) => void }) {
  const containers = useContainers().data ?? [];
  const clusters = useKubernetes().data ?? [];
  const [name, setName] = useState("");
  const [scope, setScope] = useState<string | null>("viewer");
  const [limited, setLimited] = useState<string[]>([]);
  const [kubernetes, setKubernetes] = useState<string[]>([]);
  const act = async () => {
    const token = await call<Token>("POST", "/tokens", {
      name: name.trim(),
      scope,
      containers: scope === "csi" ? limited : [],
      kubernetes: scope === "csi" ? kubernetes : [],
    });
    made(token);
    await refresh("tokens", "audit");
  };
  return (
    <Form title={word("createToken")} submit={word("create")} close={close} act={act}>
      <TextInput
        label={word("name")}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <Select
        label={word("scope")}
        allowDeselect={false}
        data={SCOPES.map((one) => ({ value: one, label: valueWord("scope", one) }))}
        value={scope}
        onChange={setScope}
      />
      {scope === "csi" && (
        <>
          <MultiSelect
            label={word("containers")}
            data={containers.map((one) => one.name)}
            value={limited}
            onChange={setLimited}
          />
          <TagsInput
            label={word("tokenKubernetes")}
            description={word("tokenKubernetesHint")}
            data={clusters.map((one) => one.name)}
            value={kubernetes}
            onChange={setKubernetes}
            acceptValueOnBlur
          />
        </>
      )}
    </Form>
  );
}

function columns(language: string, remove: (token: Token) => void): Column<Token>[] {
  const listed = (all: string[]) => all.join(", ") || word("all");
  const list = (id: "containers" | "kubernetes", title: string): Column<Token> => ({
    id,
    title,
    value: (one) => listed(one[id]),
    show: (one) => <span title={listed(one[id])}>{listed(one[id])}</span>,
    width: "minmax(140px, 1fr)",
  });
  return [
    { id: "name", title: word("name"), value: (one) => one.name, width: "minmax(160px, 2fr)" },
    { id: "scope", title: word("scope"), value: (one) => valueWord("scope", one.scope) },
    list("containers", word("containers")),
    list("kubernetes", word("tokenKubernetes")),
    {
      id: "created",
      title: word("created"),
      value: (one) => one.created_ms,
      show: (one) => time(one.created_ms, language),
      width: "minmax(170px, 1fr)",
    },
    {
      id: "actions",
      title: "",
      value: () => null,
      show: (one) => (
        <Button size="compact-xs" variant="default" onClick={() => remove(one)}>
          {word("delete")}
        </Button>
      ),
      width: "90px",
    },
  ];
}

/** A secret, shown this once. */
function Made({ token, close }: { token: Token; close: () => void }) {
  return (
    <Alert
      color="cyan"
      variant="outline"
      title={`${word("tokenOnce")} ${token.name}`}
      withCloseButton
      closeButtonLabel={word("close")}
      onClose={close}
    >
      <Group gap="xs">
        <Code>{token.token}</Code>
        <CopyButton value={token.token ?? ""}>
          {({ copied, copy }) => (
            <Button size="compact-xs" variant="default" onClick={copy}>
              {copied ? "✓" : "⧉"}
            </Button>
          )}
        </CopyButton>
      </Group>
    </Alert>
  );
}

export function Tokens() {
  const language = useLanguage();
  const query = useTokens(true);
  const [dialog, setDialog] = useState<"create" | Token | null>(null);
  const [made, setMade] = useState<Token | null>(null);
  const close = () => setDialog(null);
  const drawn = useMemo(() => columns(language, setDialog), [language]);
  const remove = async (name: string) => {
    await call("DELETE", `/tokens${path(name)}`);
    tell(`${word("delete")}: ${name}`);
    await refresh("tokens", "audit");
  };
  return (
    <Stack>
      <Group justify="flex-end">
        <Button onClick={() => setDialog("create")}>{word("createToken")}</Button>
      </Group>
      {made?.token && <Made token={made} close={() => setMade(null)} />}
      <Loaded query={query}>
        {(all) => <DataTable label={word("tokens")} rows={all} columns={drawn} id={(one) => one.name} />}
      </Loaded>
      {dialog === "create" && <CreateToken close={close} made={setMade} />}
      {dialog !== null && dialog !== "create" && (
        <Form
          title={word("delete")}
          submit={word("delete")}
          danger
          close={close}
          act={() => remove(dialog.name)}
        >
          <Text size="sm">{word("deleteToken")}</Text>
          <Text fw={600}>{dialog.name}</Text>
        </Form>
      )}
    </Stack>
  );
}
