import { Button, PasswordInput, Stack, Tabs, Text } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { settingsSearchOf } from "../addresses";
import { ApiError, call } from "../api";
import { Form } from "../dialogs";
import { time } from "../format";
import { useLanguage, valueWord, word } from "../i18n";
import { browserCertificates } from "../node-settings";
import { Facts, Loaded, Page, Panel } from "../parts";
import { Policies } from "../policies";
import { client, useAuthority, useRights, useSession, useSettings } from "../queries";
import { RotationPanel } from "../rotation";
import { settingsRoute } from "../router";
import { Sessions } from "../sessions";
import { type Column, DataTable } from "../table";
import type { Authority, Setting } from "../types";
import { Audit } from "./audit";
import { Tokens } from "./tokens";
import { Users } from "./users";

type Certificate = Authority["nodes"][number];

function browserColumns(language: string): Column<Setting>[] {
  return [
    { id: "node", title: word("node"), value: (one) => one.node },
    {
      id: "until",
      title: word("validUntil"),
      value: (one) => one.value,
      show: (one) => time(one.value, language),
      width: "minmax(170px, 1fr)",
    },
  ];
}

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
      id: "current",
      title: word("ofNewestAuthority"),
      value: (one) => (one.current ? "✓" : ""),
      width: "minmax(120px, 0.6fr)",
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

/** What browsers are shown where an operator has given nodes a certificate of another authority. */
function ForBrowsers() {
  const language = useLanguage();
  const query = useSettings();
  const drawn = useMemo(() => browserColumns(language), [language]);
  return (
    <Panel title={word("certificatesBrowsers")}>
      <Loaded query={query}>
        {(settings) => {
          const shown = browserCertificates(settings);
          return shown.length === 0 ? (
            <Text size="sm">{word("certificatesBrowsersNone")}</Text>
          ) : (
            <DataTable
              label={word("certificatesBrowsers")}
              rows={shown}
              columns={drawn}
              id={(one) => one.node}
            />
          );
        }}
      </Loaded>
    </Panel>
  );
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
          <RotationPanel authority={authority} />
          <DataTable
            label={word("certificates")}
            rows={authority.nodes}
            columns={drawn}
            id={(one) => one.node}
          />
          <ForBrowsers />
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
  const user = useSession().data?.user;
  const navigate = useNavigate();
  const { tab = "account", filter } = settingsRoute.useSearch();
  const turn = (to: string | null) =>
    void navigate({ to: "/settings", search: settingsSearchOf({ tab: to }), replace: true });
  return (
    <Page title="settings">
      <Tabs value={tab} onChange={turn} keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="account">{word("ownAccount")}</Tabs.Tab>
          {administer && <Tabs.Tab value="users">{word("users")}</Tabs.Tab>}
          {(administer || user) && (
            <Tabs.Tab value="tokens">{word(administer ? "tokens" : "ownTokens")}</Tabs.Tab>
          )}
          <Tabs.Tab value="certificates">{word("certificates")}</Tabs.Tab>
          <Tabs.Tab value="policies">{word("policies")}</Tabs.Tab>
          {operate && <Tabs.Tab value="audit">{word("audit")}</Tabs.Tab>}
        </Tabs.List>
        <Tabs.Panel value="account">
          <Stack>
            <Account />
            {user && !administer && <Sessions />}
          </Stack>
        </Tabs.Panel>
        <Tabs.Panel value="users">
          <Stack>
            <Users first={filter} />
            <Sessions />
          </Stack>
        </Tabs.Panel>
        <Tabs.Panel value="tokens">
          <Tokens first={filter} />
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
