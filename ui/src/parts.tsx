// Small things that several pages show.

import { Alert, Badge, Card, Group, Loader, Stack, Text, Title, type TitleOrder } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import type { ReactNode } from "react";
import { ApiError } from "./api";
import { percent } from "./format";
import { errorText, valueWord, type Word, word } from "./i18n";
import type { ValueOf } from "./values";

const COLOURS: Record<string, string> = {
  ok: "green",
  ready: "green",
  present: "green",
  alive: "green",
  done: "green",
  succeeded: "green",
  bound: "green",
  running: "cyan",
  filling: "cyan",
  warning: "yellow",
  warn: "yellow",
  error: "red",
  degraded: "yellow",
  pending: "yellow",
  terminating: "yellow",
  silent: "yellow",
  suspect: "yellow",
  away: "yellow",
  draining: "yellow",
  candidate: "cyan",
  critical: "red",
  failed: "red",
  stopped: "red",
  incomplete: "red",
  quarantine: "red",
  lost: "red",
  full: "red",
  unreachable: "red",
  unavailable: "red",
  forbidden: "red",
  unauthenticated: "red",
};

/** A state in a colour; the word itself is always there: what is inside, or that of the state of such a thing. */
export function State(props: { state: string } & ({ of: ValueOf } | { children: ReactNode })) {
  const { state } = props;
  return (
    <Badge
      color={COLOURS[state] ?? "gray"}
      variant="light"
      autoContrast
      style={{ textTransform: "none" }}
      c="var(--mantine-color-text)"
    >
      {"of" in props ? valueWord(props.of, state) : props.children}
    </Badge>
  );
}

export function Panel({
  title,
  action,
  order,
  children,
}: {
  title: string;
  action?: ReactNode;
  /** Level of its heading; nothing: right below the page's. */
  order?: TitleOrder;
  children: ReactNode;
}) {
  return (
    <Card withBorder padding="md" component="section" aria-label={title}>
      <Group justify="space-between" mb="sm" wrap="nowrap">
        <Title order={order ?? 2} size="h5">
          {title}
        </Title>
        {action}
      </Group>
      {children}
    </Card>
  );
}

/** Used of a whole, with a mark. */
export function Bar(props: { label: string; used: number; whole: number; limit?: number; small?: boolean }) {
  const { label, used, whole, limit, small } = props;
  const share = percent(used, whole);
  const over = limit !== undefined && used > limit;
  return (
    <div
      className={small ? "bar small" : "bar"}
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(share)}
    >
      <div className={over ? "bar-used over" : "bar-used"} style={{ width: `${share}%` }} />
      {limit !== undefined && <div className="bar-limit" style={{ left: `${percent(limit, whole)}%` }} />}
    </div>
  );
}

/** The same in a row of a table, with the number; nothing while there is nothing to fill. */
export function Fill({ label, used, whole }: { label: string; used: number; whole: number }) {
  if (whole === 0) {
    return "–";
  }
  return (
    <Group gap={6} wrap="nowrap">
      <div style={{ flex: 1 }}>
        <Bar label={label} used={used} whole={whole} small />
      </div>
      <span>{percent(used, whole).toFixed(0)} %</span>
    </Group>
  );
}

/** Names and values. */
export function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl style={{ display: "grid", gridTemplateColumns: "max-content 1fr", gap: "4px 16px", margin: 0 }}>
      {facts.map(([name, value]) => (
        <div key={name} style={{ display: "contents" }}>
          <Text component="dt" size="sm" c="dimmed">
            {name}
          </Text>
          <Text component="dd" size="sm" m={0} style={{ overflowWrap: "anywhere" }}>
            {value}
          </Text>
        </div>
      ))}
    </dl>
  );
}

interface Asked<T> {
  data: T | undefined;
  error: Error | null;
}

/** What was read, or that it is being read, or why it cannot be. */
export function Loaded<T>({ query, children }: { query: Asked<T>; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) {
    return children(query.data);
  }
  if (query.error) {
    return (
      <Alert color="red" variant="outline" title={word("failed")}>
        {reason(query.error)}
      </Alert>
    );
  }
  return (
    <Group gap="xs" p="md">
      <Loader size="sm" aria-hidden />
      <Text size="sm">{word("loading")}</Text>
    </Group>
  );
}

/** Below a list that was read up to a limit. */
export function Cut({ shown, limit }: { shown: number; limit: number }) {
  return (
    shown >= limit && (
      <Text size="sm" c="dimmed">
        {word("olderNotShown", limit)}
      </Text>
    )
  );
}

export function reason(error: unknown): string {
  if (error instanceof ApiError) {
    return errorText(error.kind, error.message);
  }
  return error instanceof Error ? error.message : String(error);
}

export function tell(what: string): void {
  notifications.show({
    color: "green",
    title: word("done"),
    message: what,
    closeButtonProps: { "aria-label": word("close") },
  });
}

export function complain(error: unknown): void {
  notifications.show({
    color: "red",
    title: word("failed"),
    message: reason(error),
    autoClose: 15_000,
    closeButtonProps: { "aria-label": word("close") },
  });
}

/** A page's name and what can be done there. */
export function Page({
  title,
  name,
  actions,
  children,
}: {
  title?: Word;
  name?: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  return (
    <Stack gap="md">
      <Group justify="space-between">
        <Title order={1} size="h3">
          {title ? word(title) : name}
        </Title>
        <Group gap="xs">{actions}</Group>
      </Group>
      {children}
    </Stack>
  );
}

/** By name, with `node-10` behind `node-9`. */
export function inOrder<T extends { name: string }>(all: T[]): T[] {
  return all.toSorted((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
}
