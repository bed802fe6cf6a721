// Sessions that count, and how one of them is ended.

import { Button, Text } from "@mantine/core";
import { useMemo, useState } from "react";
import { call, path } from "./api";
import { Form, refresh } from "./dialogs";
import { time } from "./format";
import { useLanguage, word } from "./i18n";
import { Loaded, Panel, tell } from "./parts";
import { client, useSessions } from "./queries";
import { type Column, DataTable } from "./table";
import type { OpenSession } from "./types";

function columns(language: string, end: (session: OpenSession) => void): Column<OpenSession>[] {
  const at = (id: "created_ms" | "expires_ms", title: string): Column<OpenSession> => ({
    id,
    title,
    value: (one) => one[id],
    show: (one) => time(one[id], language),
    width: "minmax(170px, 1fr)",
  });
  return [
    { id: "user", title: word("sessionUser"), value: (one) => one.user, width: "minmax(140px, 1fr)" },
    { id: "id", title: "ID", value: (one) => one.id, width: "minmax(170px, 1fr)" },
    at("created_ms", word("sessionBegun")),
    at("expires_ms", word("validUntil")),
    {
      id: "own",
      title: word("sessionOwn"),
      value: (one) => (one.own ? "✓" : ""),
      width: "minmax(110px, 0.5fr)",
    },
    {
      id: "actions",
      title: "",
      value: () => null,
      show: (one) => (
        <Button
          size="compact-xs"
          variant="default"
          aria-label={`${word("sessionEnd")}: ${one.user} ${one.id}`}
          onClick={() => end(one)}
        >
          {word("sessionEnd")}
        </Button>
      ),
      width: "90px",
    },
  ];
}

/** Of all users for an administrator, one's own for everybody else. */
export function Sessions() {
  const language = useLanguage();
  const query = useSessions();
  const [ended, setEnded] = useState<OpenSession | null>(null);
  const drawn = useMemo(() => columns(language, setEnded), [language]);
  const act = async (session: OpenSession) => {
    await call("DELETE", `/sessions${path(session.id)}`);
    if (session.own) {
      client.clear();
      window.location.assign("/");
      return;
    }
    tell(`${word("sessionEnd")}: ${session.user} ${session.id}`);
    await refresh("sessions", "users", "audit");
  };
  return (
    <Panel title={word("sessions")}>
      <Loaded query={query}>
        {(all) => (
          <DataTable
            label={word("sessions")}
            rows={all}
            columns={drawn}
            id={(one) => one.id}
            order={{ column: "created_ms", down: true }}
          />
        )}
      </Loaded>
      {ended && (
        <Form
          title={`${word("sessionEnd")}: ${ended.user} ${ended.id}`}
          submit={word("sessionEnd")}
          danger
          close={() => setEnded(null)}
          act={() => act(ended)}
        >
          <Text size="sm">{word(ended.own ? "sessionEndOwn" : "sessionEndHint")}</Text>
        </Form>
      )}
    </Panel>
  );
}
