import {
  Alert,
  Button,
  Code,
  CopyButton,
  Group,
  MultiSelect,
  PasswordInput,
  Select,
  Stack,
  Table,
  Tabs,
  TagsInput,
  Text,
  TextInput,
} from "@mantine/core";
import { useState } from "react";
import { ApiError, call, path } from "../api";
import { Form, refresh } from "../dialogs";
import { time } from "../format";
import { useLanguage, type Word, word } from "../i18n";
import { Facts, Loaded, Page, tell } from "../parts";
import { Policies } from "../policies";
import {
  client,
  useAuthority,
  useContainers,
  useKubernetes,
  useRights,
  useSession,
  useTokens,
  useUsers,
} from "../queries";
import type { Role, Scope, Token, User } from "../types";
import { Audit } from "./audit";

const ROLES: { value: Role; title: Word }[] = [
  { value: "viewer", title: "roleViewer" },
  { value: "operator", title: "roleOperator" },
  { value: "admin", title: "roleAdmin" },
];
const SCOPES: Scope[] = ["viewer", "operator", "admin", "csi", "client"];

const roles = () => ROLES.map(({ value, title }) => ({ value, label: word(title) }));

function UserForm({ close, user }: { close: () => void; user?: User }) {
  const [name, setName] = useState(user?.name ?? "");
  const [role, setRole] = useState<string | null>(user?.role ?? "viewer");
  const [password, setPassword] = useState("");
  const act = async () => {
    if (user) {
      const change = {
        role: role === user.role ? undefined : role,
        password: password === "" ? undefined : password,
      };
      await call("PATCH", `/users${path(user.name)}`, change);
    } else {
      await call("POST", "/users", { name: name.trim(), role, password });
    }
    tell(`${word("user")}: ${name}`);
    await refresh("users", "audit", "session");
  };
  return (
    <Form
      title={user ? `${word("edit")}: ${user.name}` : word("createUser")}
      submit={word(user ? "save" : "create")}
      close={close}
      act={act}
    >
      {!user && (
        <TextInput
          label={word("name")}
          required
          autoComplete="off"
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
      )}
      <Select label={word("role")} allowDeselect={false} data={roles()} value={role} onChange={setRole} />
      <PasswordInput
        label={word(user ? "newPassword" : "password")}
        description={word("passwordHint")}
        required={!user}
        autoComplete="new-password"
        value={password}
        onChange={(event) => setPassword(event.currentTarget.value)}
      />
    </Form>
  );
}

type UserDialog = { kind: "create" } | { kind: "edit" | "delete"; user: User };

function Users() {
  const language = useLanguage();
  const query = useUsers(true);
  const [dialog, setDialog] = useState<UserDialog | null>(null);
  const close = () => setDialog(null);
  const remove = async (name: string) => {
    await call("DELETE", `/users${path(name)}`);
    tell(`${word("delete")}: ${name}`);
    await refresh("users", "audit", "session");
  };
  return (
    <Stack>
      <Group justify="flex-end">
        <Button onClick={() => setDialog({ kind: "create" })}>{word("createUser")}</Button>
      </Group>
      <Loaded query={query}>
        {(users) => (
          <Table striped aria-label={word("users")}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{word("name")}</Table.Th>
                <Table.Th>{word("role")}</Table.Th>
                <Table.Th>{word("sessions")}</Table.Th>
                <Table.Th>{word("created")}</Table.Th>
                <Table.Td />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {users.map((user) => (
                <Table.Tr key={user.name}>
                  <Table.Td>{user.name}</Table.Td>
                  <Table.Td>{user.role}</Table.Td>
                  <Table.Td>{user.sessions}</Table.Td>
                  <Table.Td>{time(user.created_ms, language)}</Table.Td>
                  <Table.Td>
                    <Group gap={4} justify="flex-end">
                      <Button
                        size="compact-xs"
                        variant="default"
                        onClick={() => setDialog({ kind: "edit", user })}
                      >
                        {word("edit")}
                      </Button>
                      <Button
                        size="compact-xs"
                        variant="default"
                        onClick={() => setDialog({ kind: "delete", user })}
                      >
                        {word("delete")}
                      </Button>
                    </Group>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Loaded>
      {dialog?.kind === "create" && <UserForm close={close} />}
      {dialog?.kind === "edit" && <UserForm close={close} user={dialog.user} />}
      {dialog?.kind === "delete" && (
        <Form
          title={word("delete")}
          submit={word("delete")}
          danger
          close={close}
          act={() => remove(dialog.user.name)}
        >
          <Text size="sm">{word("deleteUser")}</Text>
          <Text fw={600}>{dialog.user.name}</Text>
        </Form>
      )}
    </Stack>
  );
}

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
      <Select label={word("scope")} allowDeselect={false} data={SCOPES} value={scope} onChange={setScope} />
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

function Tokens() {
  const language = useLanguage();
  const query = useTokens(true);
  const [dialog, setDialog] = useState<"create" | Token | null>(null);
  const [made, setMade] = useState<Token | null>(null);
  const close = () => setDialog(null);
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
      {made?.token && (
        <Alert
          color="cyan"
          variant="outline"
          title={`${word("tokenOnce")} ${made.name}`}
          withCloseButton
          closeButtonLabel={word("close")}
          onClose={() => setMade(null)}
        >
          <Group gap="xs">
            <Code>{made.token}</Code>
            <CopyButton value={made.token}>
              {({ copied, copy }) => (
                <Button size="compact-xs" variant="default" onClick={copy}>
                  {copied ? "✓" : "⧉"}
                </Button>
              )}
            </CopyButton>
          </Group>
        </Alert>
      )}
      <Loaded query={query}>
        {(tokens) =>
          tokens.length === 0 ? (
            <Text size="sm">{word("nothing")}</Text>
          ) : (
            <Table striped aria-label={word("tokens")}>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>{word("name")}</Table.Th>
                  <Table.Th>{word("scope")}</Table.Th>
                  <Table.Th>{word("containers")}</Table.Th>
                  <Table.Th>{word("tokenKubernetes")}</Table.Th>
                  <Table.Th>{word("created")}</Table.Th>
                  <Table.Td />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {tokens.map((token) => (
                  <Table.Tr key={token.name}>
                    <Table.Td>{token.name}</Table.Td>
                    <Table.Td>{token.scope}</Table.Td>
                    <Table.Td>{token.containers.join(", ") || word("all")}</Table.Td>
                    <Table.Td>{token.kubernetes.join(", ") || word("all")}</Table.Td>
                    <Table.Td>{time(token.created_ms, language)}</Table.Td>
                    <Table.Td>
                      <Group justify="flex-end">
                        <Button size="compact-xs" variant="default" onClick={() => setDialog(token)}>
                          {word("delete")}
                        </Button>
                      </Group>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )
        }
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

const byName = (one: { node: string }, other: { node: string }) => one.node.localeCompare(other.node);

function Certificates() {
  const language = useLanguage();
  const query = useAuthority(true);
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
          <Table striped aria-label={word("certificates")}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{word("node")}</Table.Th>
                <Table.Th>{word("issuer")}</Table.Th>
                <Table.Th>{word("validUntil")}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {[...authority.nodes].sort(byName).map((node) => (
                <Table.Tr key={node.node}>
                  <Table.Td>{node.node}</Table.Td>
                  <Table.Td>{node.issuer}</Table.Td>
                  <Table.Td>{time(node.until_ms, language)}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
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
          [word("role"), session?.scope ?? "–"],
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
