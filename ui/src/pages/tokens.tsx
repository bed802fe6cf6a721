// Tokens for programs, and one's own: a table of them, and how one is made and taken away.

import {
  Alert,
  Button,
  Checkbox,
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
import { useContainers, useKubernetes, useRights, useSession, useTokens } from "../queries";
import { type Column, DataTable } from "../table";
import type { Scope, Token } from "../types";

/** Those that users have as roles come first, from the least. */
const SCOPES: Scope[] = ["viewer", "operator", "admin", "csi", "client"];

/** What a personal token may be for: the user's own scope at most. */
function personalScopes(scope: Scope | null | undefined): Scope[] {
  const roles = SCOPES.slice(0, 3);
  return roles.slice(0, roles.indexOf(scope ?? "viewer") + 1);
}

function CreateToken({ close, made }: { close: () => void; made: (token: Token) => void }) {
  const containers = useContainers().data ?? [];
  const clusters = useKubernetes().data ?? [];
  const session = useSession().data;
  const { administer } = useRights();
  const [personal, setPersonal] = useState(!administer);
  const [name, setName] = useState("");
  const [scope, setScope] = useState<string | null>("viewer");
  const [limited, setLimited] = useState<string[]>([]);
  const [kubernetes, setKubernetes] = useState<string[]>([]);
  const [all, setAll] = useState(false);
  const act = async () => {
    const token = await call<Token>("POST", "/tokens", {
      name: name.trim(),
      scope,
      containers: scope === "csi" ? limited : [],
      kubernetes: scope === "csi" ? kubernetes : [],
      all_containers: scope === "csi" && all,
      personal,
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
      {administer && session?.user && (
        <Checkbox
          label={word("tokenPersonal")}
          description={word("tokenPersonalHint")}
          checked={personal}
          onChange={(event) => {
            setPersonal(event.currentTarget.checked);
            setScope("viewer");
          }}
        />
      )}
      <Select
        label={word("scope")}
        description={administer ? undefined : word("tokenPersonalHint")}
        allowDeselect={false}
        data={(personal ? personalScopes(session?.scope) : SCOPES).map((one) => ({
          value: one,
          label: valueWord("scope", one),
        }))}
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
            disabled={all}
          />
          <Checkbox
            label={word("tokenAllContainers")}
            description={word("tokenAllContainersHint")}
            checked={all}
            onChange={(event) => {
              setAll(event.currentTarget.checked);
              setLimited([]);
            }}
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

/** A driver's token that was never limited is told apart from one that is meant to be for all. */
function listed(token: Token, id: "containers" | "kubernetes"): string {
  const limited = token.containers.length > 0 || token.kubernetes.length > 0 || token.all_containers;
  if (token.scope === "csi" && !limited) {
    return word("tokenNeverLimited");
  }
  return token[id].join(", ") || word("all");
}

function columns(language: string, administer: boolean, remove: (token: Token) => void): Column<Token>[] {
  const list = (id: "containers" | "kubernetes", title: string): Column<Token> => ({
    id,
    title,
    value: (one) => listed(one, id),
    show: (one) => <span title={listed(one, id)}>{listed(one, id)}</span>,
    width: "minmax(140px, 1fr)",
  });
  // All of these are of the one who looks, and personal ones have no limits.
  const whose: Column<Token>[] = [
    { id: "user", title: word("user"), value: (one) => one.user ?? "–" },
    list("containers", word("containers")),
    list("kubernetes", word("tokenKubernetes")),
  ];
  return [
    { id: "name", title: word("name"), value: (one) => one.name, width: "minmax(160px, 2fr)" },
    { id: "scope", title: word("scope"), value: (one) => valueWord("scope", one.scope) },
    ...(administer ? whose : []),
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

export function Tokens({ first }: { first?: string }) {
  const language = useLanguage();
  const query = useTokens(true);
  const [dialog, setDialog] = useState<"create" | Token | null>(null);
  const [made, setMade] = useState<Token | null>(null);
  const close = () => setDialog(null);
  const { administer } = useRights();
  const drawn = useMemo(() => columns(language, administer, setDialog), [language, administer]);
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
        {(all) => (
          <DataTable
            key={first}
            first={first}
            label={word("tokens")}
            rows={all}
            columns={drawn}
            id={(one) => one.name}
          />
        )}
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
