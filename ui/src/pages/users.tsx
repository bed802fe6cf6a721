// People who log in: a table of them, and what is done with each.

import { Button, Group, PasswordInput, Select, Stack, Text, TextInput } from "@mantine/core";
import { useMemo, useState } from "react";
import { call, path } from "../api";
import { Form, refresh } from "../dialogs";
import { time } from "../format";
import { useLanguage, valueWord, type Word, word } from "../i18n";
import { Loaded, tell } from "../parts";
import { useUsers } from "../queries";
import { type Column, DataTable } from "../table";
import type { Role, User } from "../types";

const ROLES: { value: Role; title: Word }[] = [
  { value: "viewer", title: "roleViewer" },
  { value: "operator", title: "roleOperator" },
  { value: "admin", title: "roleAdmin" },
];

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

function columns(language: string, ask: (dialog: UserDialog) => void): Column<User>[] {
  const button = (kind: "edit" | "delete", user: User) => (
    <Button size="compact-xs" variant="default" onClick={() => ask({ kind, user })}>
      {word(kind)}
    </Button>
  );
  return [
    { id: "name", title: word("name"), value: (one) => one.name, width: "minmax(160px, 2fr)" },
    { id: "role", title: word("role"), value: (one) => valueWord("scope", one.role) },
    { id: "sessions", title: word("sessions"), value: (one) => one.sessions, right: true },
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
        <Group gap={4} wrap="nowrap">
          {button("edit", one)}
          {button("delete", one)}
        </Group>
      ),
      width: "150px",
    },
  ];
}

export function Users({ first }: { first?: string }) {
  const language = useLanguage();
  const query = useUsers(true);
  const [dialog, setDialog] = useState<UserDialog | null>(null);
  const close = () => setDialog(null);
  const drawn = useMemo(() => columns(language, setDialog), [language]);
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
        {(all) => (
          <DataTable
            key={first}
            first={first}
            label={word("users")}
            rows={all}
            columns={drawn}
            id={(one) => one.name}
          />
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
