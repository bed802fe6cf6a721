import { Alert, Button, Center, Paper, PasswordInput, Stack, Text, TextInput, Title } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { call } from "../api";
import { setLanguage, useLanguage, word } from "../i18n";
import { reason } from "../parts";
import { client } from "../queries";
import type { Session } from "../types";

export function LoginPage() {
  const language = useLanguage();
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const session = await call<Session>("POST", "/session", { user, password });
      // What somebody else has read here before is nobody's any more.
      client.removeQueries({ predicate: (query) => query.queryKey[0] !== "session" });
      client.setQueryData(["session"], session);
    } catch (error) {
      setProblem(reason(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Center mih="100vh" component="main">
      <Paper withBorder p="xl" w={360} component="form" onSubmit={(event: FormEvent) => void submit(event)}>
        <Stack>
          <Title order={1} size="h2">
            <img
              src="/icon.svg"
              alt=""
              width={28}
              height={28}
              style={{ verticalAlign: "-4px", marginRight: 10 }}
            />
            Azekura
          </Title>
          <TextInput
            label={word("user")}
            name="user"
            autoComplete="username"
            required
            data-autofocus
            value={user}
            onChange={(event) => setUser(event.currentTarget.value)}
          />
          <PasswordInput
            label={word("password")}
            name="password"
            autoComplete="current-password"
            required
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
          {problem && (
            <Alert color="red" variant="outline" role="alert">
              {problem}
            </Alert>
          )}
          <Button type="submit" loading={busy}>
            {word("logIn")}
          </Button>
          <Text size="xs" c="dimmed">
            {word("loginHint")}
          </Text>
          <Button
            variant="default"
            size="compact-xs"
            onClick={() => setLanguage(language === "ja" ? "en" : "ja")}
          >
            {word("language")}
          </Button>
        </Stack>
      </Paper>
    </Center>
  );
}
