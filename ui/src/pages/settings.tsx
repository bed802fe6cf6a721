import { Button, PasswordInput, Stack, Tabs, Text } from "@mantine/core";
import { useMemo, useState } from "react";
import { ApiError, call } from "../api";
import { Form } from "../dialogs";
import { time } from "../format";
import { useLanguage, valueWord, word } from "../i18n";
import { Facts, Loaded, Page } from "../parts";
import { Policies } from "../policies";
import { client, useAuthority, useRights, useSession } from "../queries";
import { type Column, DataTable } from "../table";
import type { Authority } from "../types";
import { Audit } from "./audit";
import { Tokens } from "./tokens";
import { Users } from "./users";

type Certificate = Authority["nodes"][number];

function certificateColumns(language: string): Column<Certificate>[] {
  return [
    { id: "node", title: word("node"), value: (one) => one.node },
    {
      id: "issuer",
      title: word("issuer"),
      value: (one) => one.issuer,
      show: (one) => <span title={one.issuer}>{one.issuer}</span>,
      width: "minmax(200px, 2fr)",
    },
    {
      id: "until",
      title: word("validUntil"),
      value: (one) => one.until_ms,
      show: (one) => time(one.until_ms, language),
      width: "minmax(170px, 1fr)",
    },
  ];
}

function Certificates() {
  const language = useLanguage();
  const query = useAuthority(true);
  const drawn = useMemo(() => certificateColumns(language), [language]);
  if (query.error instanceof ApiError && query.error.kind === "refused") {
    return <Text size="sm">{word("certificatesNone")}</Text>;
  }
  return (
    <Loaded query={query}>
      {(authority) => (
        <Stack>
          <Facts
            facts={[
              [word("authority"), authority.signer],
              [word("fingerprint"), authority.fingerprint],
            ]}
          />
          <DataTable
            label={word("certificates")}
            rows={authority.nodes}
            columns={drawn}
            id={(one) => one.node}
          />
        </Stack>
      )}
    </Loaded>
  );
}

function Account() {
  const session = useSession().data;
  const [open, setOpen] = useState(false);
  const [current, setCurrent] = useState("");
  const [password, setPassword] = useState("");
  const act = async () => {
    await call("POST", "/session/password", { current, password });
    // It ends all sessions of the user, this one, too.
    client.clear();
    window.location.assign("/");
  };
  return (
    <Stack align="flex-start">
      <Facts
        facts={[
          [word("who"), session?.who ?? "–"],
          [word("role"), session?.scope ? valueWord("scope", session.scope) : "–"],
        ]}
      />
      {session?.user && <Button onClick={() => setOpen(true)}>{word("changePassword")}</Button>}
      {open && (
        <Form title={word("changePassword")} submit={word("save")} close={() => setOpen(false)} act={act}>
          <PasswordInput
            label={word("currentPassword")}
            required
            autoComplete="current-password"
            value={current}
            onChange={(event) => setCurrent(event.currentTarget.value)}
          />
          <PasswordInput
            label={word("newPassword")}
            description={word("passwordHint")}
            required
            autoComplete="new-password"
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
        </Form>
      )}
    </Stack>
  );
}

export function SettingsPage() {
  useLanguage();
  const { operate, administer } = useRights();
  const [tab, setTab] = useState<string | null>("account");
  return (
    <Page title="settings">
      <Tabs value={tab} onChange={setTab} keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="account">{word("ownAccount")}</Tabs.Tab>
          {administer && <Tabs.Tab value="users">{word("users")}</Tabs.Tab>}
          {administer && <Tabs.Tab value="tokens">{word("tokens")}</Tabs.Tab>}
          <Tabs.Tab value="certificates">{word("certificates")}</Tabs.Tab>
          <Tabs.Tab value="policies">{word("policies")}</Tabs.Tab>
          {operate && <Tabs.Tab value="audit">{word("audit")}</Tabs.Tab>}
        </Tabs.List>
        <Tabs.Panel value="account">
          <Account />
        </Tabs.Panel>
        <Tabs.Panel value="users">
          <Users />
        </Tabs.Panel>
        <Tabs.Panel value="tokens">
          <Tokens />
        </Tabs.Panel>
        <Tabs.Panel value="certificates">
          <Certificates />
        </Tabs.Panel>
        <Tabs.Panel value="policies">
          <Policies />
        </Tabs.Panel>
        <Tabs.Panel value="audit">
          <Audit />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}
