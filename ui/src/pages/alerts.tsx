// What is wrong, or was; and who is told of it.

import { Button, Group, Modal, Select, Stack, Text, Textarea } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { AddTarget } from "../add-target";
import { possible } from "../alerts";
import { call, path } from "../api";
import { each, Form, refresh } from "../dialogs";
import { time } from "../format";
import { useLanguage, valueWord, word } from "../i18n";
import { complain, Facts, Loaded, Page, Panel, State, tell } from "../parts";
import { useAlerts, useAlertTargets, useRights } from "../queries";
import { alertsRoute } from "../router";
import { type Column, DataTable } from "../table";
import type { Alert, AlertMark, AlertTarget } from "../types";

const SEVERITIES = ["critical", "warning", "info"];
const STATES = ["open", "resolved", "all"] as const;
type Shown = (typeof STATES)[number];

function said(mark: AlertMark | null, language: string): string {
  if (!mark) {
    return "–";
  }
  const note = mark.note ? `: ${mark.note}` : "";
  return `${time(mark.at_ms, language)}, ${mark.by ?? word("alertCauseGone")}${note}`;
}

function columns(language: string, open: (alert: Alert) => void): Column<Alert>[] {
  return [
    {
      id: "severity",
      title: word("severity"),
      value: (one) => valueWord("severity", one.severity),
      show: (one) => <State state={one.severity} of="severity" />,
      width: "minmax(110px, 0.6fr)",
    },
    {
      id: "raised",
      title: word("alertRaised"),
      value: (one) => one.raised_ms,
      show: (one) => time(one.raised_ms, language),
      width: "minmax(170px, 1fr)",
    },
    {
      id: "cause",
      title: word("alertCause"),
      value: (one) => one.cause,
      show: (one) => (
        <button type="button" className="grid-sort" title={one.cause} onClick={() => open(one)}>
          {one.cause}
        </button>
      ),
      width: "minmax(320px, 3fr)",
    },
    { id: "entity", title: word("about"), value: (one) => one.entity, width: "minmax(140px, 1fr)" },
    {
      id: "remedy",
      title: word("remedy"),
      value: (one) => one.remedy,
      show: (one) => <span title={one.remedy}>{one.remedy}</span>,
      width: "minmax(220px, 2fr)",
    },
    {
      id: "state",
      title: word("state"),
      value: (one) => word(STATE_WORDS[one.state]),
      show: (one) => word(STATE_WORDS[one.state]),
      width: "minmax(120px, 0.7fr)",
    },
    {
      id: "by",
      title: word("alertBy"),
      value: (one) => (one.resolved ?? one.acknowledged)?.by ?? null,
      width: "minmax(120px, 0.8fr)",
    },
    {
      id: "ended",
      title: word("alertEnded"),
      value: (one) => one.resolved?.at_ms ?? null,
      show: (one) => (one.resolved ? time(one.resolved.at_ms, language) : "–"),
      width: "minmax(170px, 1fr)",
    },
    {
      id: "kind",
      title: word("kind"),
      value: (one) => valueWord("alert", one.kind),
      width: "minmax(140px, 1fr)",
    },
  ];
}

const STATE_WORDS = {
  open: "alertOpen",
  acknowledged: "alertAcknowledged",
  resolved: "alertResolved",
} as const;

/** Everything about one. */
function Details({ alert, close }: { alert: Alert; close: () => void }) {
  const language = useLanguage();
  return (
    <Modal
      opened
      onClose={close}
      size="lg"
      title={`${word("alert")} ${alert.id}`}
      closeButtonProps={{ "aria-label": word("close") }}
    >
      <Facts
        facts={[
          [word("severity"), <State key="severity" state={alert.severity} of="severity" />],
          [word("about"), alert.entity],
          [word("alertCause"), alert.cause],
          [word("alertImpact"), alert.impact],
          [word("remedy"), alert.remedy],
          [word("alertRaised"), time(alert.raised_ms, language)],
          [word("alertSeen"), time(alert.seen_ms, language)],
          [word("alertAcknowledged"), said(alert.acknowledged, language)],
          [word("alertResolved"), said(alert.resolved, language)],
          [word("kind"), valueWord("alert", alert.kind)],
        ]}
      />
      {alert.resolved === null && (
        <Text size="sm" c="dimmed" mt="sm">
          {word(alert.by_hand ? "alertEndsByHand" : "alertEndsItself")}
        </Text>
      )}
    </Modal>
  );
}

/** Acknowledges or resolves some, with a note. */
function Act(props: { action: "acknowledge" | "resolve"; alerts: Alert[]; close: () => void }) {
  const { action, alerts, close } = props;
  const [note, setNote] = useState("");
  const title = word(action === "acknowledge" ? "alertAcknowledge" : "alertResolve");
  const act = async () => {
    const body = { note: note.trim() === "" ? null : note };
    await each(alerts, (alert) => call("POST", `/alerts${path(alert.id, action)}`, body));
    await refresh("alerts");
  };
  return (
    <Form title={title} submit={title} close={close} act={act}>
      <ul style={{ margin: 0, paddingLeft: 18 }}>
        {alerts.map((alert) => (
          <Text component="li" size="sm" key={alert.id}>
            {alert.cause}
          </Text>
        ))}
      </ul>
      <Textarea
        label={word("alertNote")}
        maxLength={500}
        autosize
        data-autofocus
        value={note}
        onChange={(event) => setNote(event.currentTarget.value)}
      />
    </Form>
  );
}

function how(target: AlertTarget, language: string): string {
  if (target.error !== null) {
    return `${word("targetFailing")} ${time(target.failing_ms ?? 0, language)}: ${target.error}`;
  }
  return target.delivered_ms === null
    ? word("targetIdle")
    : `${word("targetDelivered")} ${time(target.delivered_ms, language)}`;
}

function targetColumns(
  language: string,
  actions: (target: AlertTarget) => React.ReactNode,
): Column<AlertTarget>[] {
  return [
    { id: "name", title: word("name"), value: (one) => one.name },
    { id: "kind", title: word("kind"), value: (one) => valueWord("target", one.kind) },
    {
      id: "address",
      title: word("address"),
      value: (one) => [one.address, ...one.to].join(" "),
      width: "minmax(220px, 2fr)",
    },
    {
      id: "minimum",
      title: word("targetMinimum"),
      value: (one) => valueWord("severity", one.minimum),
    },
    { id: "waiting", title: word("targetWaiting"), value: (one) => one.waiting, right: true },
    { id: "missed", title: word("targetMissed"), value: (one) => one.missed, right: true },
    {
      id: "state",
      title: word("state"),
      value: (one) => how(one, language),
      show: (one) => <span title={how(one, language)}>{how(one, language)}</span>,
      width: "minmax(280px, 3fr)",
    },
    { id: "do", title: "", value: () => null, show: actions, width: "minmax(170px, 1fr)" },
  ];
}

function Targets() {
  const language = useLanguage();
  const { target: wanted } = alertsRoute.useSearch();
  const query = useAlertTargets();
  const { operate, administer } = useRights();
  const [gone, setGone] = useState<AlertTarget | null>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const [adding, setAdding] = useState(false);
  const test = async (target: AlertTarget) => {
    setBusy(target.name);
    try {
      await call("POST", `/alert-targets${path(target.name, "test")}`, {});
      tell(`${word("targetTested")}: ${target.name}`);
    } catch (error) {
      complain(error);
    }
    setBusy(null);
  };
  const actions = (target: AlertTarget) => (
    <Group gap={4} wrap="nowrap">
      {operate && (
        <Button
          size="compact-xs"
          variant="default"
          loading={busy === target.name}
          onClick={() => void test(target)}
        >
          {word("targetTest")}
        </Button>
      )}
      {administer && (
        <Button size="compact-xs" variant="default" onClick={() => setGone(target)}>
          {word("delete")}
        </Button>
      )}
    </Group>
  );
  return (
    <Panel title={word("targets")}>
      {administer && (
        <Group>
          <Button size="xs" onClick={() => setAdding(true)}>
            {word("targetAdd")}
          </Button>
        </Group>
      )}
      {adding && <AddTarget close={() => setAdding(false)} />}
      <Loaded query={query}>
        {(targets) =>
          targets.length === 0 ? (
            <Text size="sm">{word("targetsNone")}</Text>
          ) : (
            <DataTable
              key={wanted}
              first={wanted}
              label={word("targets")}
              rows={targets}
              columns={targetColumns(language, actions)}
              id={(one) => one.name}
            />
          )
        }
      </Loaded>
      {gone && (
        <Form
          title={word("targetDelete")}
          submit={word("delete")}
          danger
          close={() => setGone(null)}
          act={async () => {
            await call("DELETE", `/alert-targets${path(gone.name)}`);
            tell(`${word("targetDelete")}: ${gone.name}`);
            await refresh("alert-targets");
          }}
        >
          <Text size="sm">{gone.name}</Text>
        </Form>
      )}
    </Panel>
  );
}

/** The alert that the address names, opened; one can come back to it with that. */
function useShown(alerts: Alert[] | undefined): [Alert | null, (alert: Alert | null) => void] {
  const navigate = useNavigate();
  const { alert: wanted } = alertsRoute.useSearch();
  const turn = useCallback(
    (to: Alert | null) =>
      void navigate({ to: "/alerts", search: to === null ? {} : { alert: to.id }, replace: true }),
    [navigate],
  );
  return [alerts?.find((one) => one.id === wanted) ?? null, turn];
}

export function AlertsPage() {
  const language = useLanguage();
  const [state, setState] = useState<Shown>("open");
  const [severity, setSeverity] = useState<string | null>(null);
  const [doing, setDoing] = useState<{ action: "acknowledge" | "resolve"; alerts: Alert[] } | null>(null);
  const query = useAlerts(state);
  const [shown, setShown] = useShown(query.data?.alerts);
  const { operate } = useRights();
  const all = useMemo(() => columns(language, setShown), [language, setShown]);
  const buttons = (chosen: Alert[]) => {
    const { acknowledge, resolve } = possible(chosen);
    return (
      <>
        <Button
          size="xs"
          disabled={acknowledge.length === 0}
          onClick={() => setDoing({ action: "acknowledge", alerts: acknowledge })}
        >
          {word("alertAcknowledge")}
        </Button>
        <Button
          size="xs"
          variant="default"
          disabled={resolve.length === 0}
          title={word("alertResolveHint")}
          onClick={() => setDoing({ action: "resolve", alerts: resolve })}
        >
          {word("alertResolve")}
        </Button>
      </>
    );
  };
  const words = { open: "alertsOpen", resolved: "alertsPast", all: "all" } as const;
  const filters = (
    <>
      <Select
        aria-label={word("state")}
        size="xs"
        allowDeselect={false}
        data={STATES.map((value) => ({ value, label: word(words[value]) }))}
        value={state}
        onChange={(value) => setState((value as Shown | null) ?? "open")}
      />
      <Select
        aria-label={word("severity")}
        placeholder={word("everySeverity")}
        size="xs"
        clearable
        data={SEVERITIES.map((value) => ({ value, label: valueWord("severity", value) }))}
        value={severity}
        onChange={setSeverity}
      />
    </>
  );
  return (
    <Page title="alerts">
      <Stack gap="md">
        <Loaded query={query}>
          {({ alerts }) => (
            <DataTable
              label={word("alerts")}
              rows={severity ? alerts.filter((one) => one.severity === severity) : alerts}
              columns={all}
              id={(one) => String(one.id)}
              order={{ column: "raised", down: true }}
              extra={filters}
              actions={operate ? buttons : undefined}
            />
          )}
        </Loaded>
        <Targets />
      </Stack>
      {shown && <Details alert={shown} close={() => setShown(null)} />}
      {doing && <Act {...doing} close={() => setDoing(null)} />}
    </Page>
  );
}
