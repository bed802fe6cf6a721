// Who has changed what: one row for each change, and all that is known of one in a dialog.

import { Modal, Stack, Switch, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { changeText, type Difference, differences, valueText } from "../audit";
import { exactTime, time } from "../format";
import { useLanguage, valueWord, type Word, word } from "../i18n";
import { Cut, Facts, Loaded, State } from "../parts";
import { AUDIT_SHOWN_MAX, useAudit } from "../queries";
import { type Column, DataTable } from "../table";
import type { AuditEntry } from "../types";

/** What changed, in one line that opens everything about it. */
function Change({ entry, open }: { entry: AuditEntry; open: (entry: AuditEntry) => void }) {
  const text = changeText(entry, useLanguage()) || word("verdictMore");
  return (
    <button
      type="button"
      className="grid-sort"
      title={text}
      aria-label={`${word("auditEntry", entry.id)}: ${text}`}
      onClick={() => open(entry)}
    >
      {text}
    </button>
  );
}

function columns(language: string, open: (entry: AuditEntry) => void): Column<AuditEntry>[] {
  return [
    {
      id: "time",
      title: word("time"),
      value: (one) => -one.id,
      show: (one) => time(one.at_ms, language),
      width: "170px",
    },
    { id: "who", title: word("who"), value: (one) => one.who, width: "minmax(130px, 1fr)" },
    { id: "operation", title: word("operation"), value: (one) => one.operation, width: "minmax(150px, 1fr)" },
    { id: "subject", title: word("subject"), value: (one) => one.subject, width: "minmax(120px, 1fr)" },
    {
      id: "change",
      title: word("auditWhat"),
      value: (one) => changeText(one, language) || null,
      show: (one) => <Change entry={one} open={open} />,
      width: "minmax(260px, 3fr)",
    },
    {
      id: "outcome",
      title: word("outcome"),
      value: (one) => valueWord("outcome", one.outcome),
      show: (one) => <State state={one.outcome} of="outcome" />,
    },
    {
      id: "reason",
      title: word("reason"),
      value: (one) => one.reason ?? null,
      show: (one) => <span title={one.reason}>{one.reason ?? ""}</span>,
      width: "minmax(120px, 2fr)",
    },
    { id: "from", title: word("from"), value: (one) => one.from },
  ];
}

/** What is said of a field that did not become other. */
const LEFT: Partial<Record<Difference["fate"], Word>> = { same: "auditSame", kept: "auditKept" };

function Row({ difference }: { difference: Difference }) {
  const language = useLanguage();
  const { field, fate, before, after } = difference;
  const left = LEFT[fate];
  const old = valueText(field, before, language);
  return (
    <Table.Tr>
      <Table.Td style={{ overflowWrap: "anywhere" }}>{field}</Table.Td>
      <Table.Td style={{ overflowWrap: "anywhere" }}>
        {fate === "changed" || fate === "removed" ? <del>{old}</del> : old}
      </Table.Td>
      <Table.Td style={{ overflowWrap: "anywhere" }}>
        {left ? (
          <Text span size="sm" c="dimmed">
            {word(left)}
          </Text>
        ) : (
          <Text span size="sm" fw={600}>
            {valueText(field, after, language)}
          </Text>
        )}
      </Table.Td>
    </Table.Tr>
  );
}

function Fields({ entry }: { entry: AuditEntry }) {
  const all = differences(entry);
  if (all.length === 0) {
    return <Text size="sm">{word("auditNothing")}</Text>;
  }
  return (
    <>
      <Table aria-label={word("auditWhat")}>
        <Table.Thead>
          <Table.Tr>
            {(["auditField", "auditBefore", "auditAfter"] as Word[]).map((title) => (
              <Table.Th key={title}>{word(title)}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {all.map((one) => (
            <Row key={one.field} difference={one} />
          ))}
        </Table.Tbody>
      </Table>
      {entry.before == null && (
        <Text size="xs" c="dimmed">
          {word("auditBeforeUnknown")}
        </Text>
      )}
    </>
  );
}

function Details({ entry, close }: { entry: AuditEntry; close: () => void }) {
  const language = useLanguage();
  return (
    <Modal
      opened
      onClose={close}
      size="lg"
      title={word("auditEntry", entry.id)}
      closeButtonProps={{ "aria-label": word("close") }}
    >
      <Stack gap="sm">
        <Facts
          facts={[
            [word("time"), exactTime(entry.at_ms, language)],
            [word("who"), entry.who],
            [word("from"), entry.from || "–"],
            [word("operation"), entry.operation],
            [word("subject"), entry.subject || "–"],
            [word("outcome"), <State key="outcome" state={entry.outcome} of="outcome" />],
            ...(entry.reason ? ([[word("reason"), entry.reason]] as [string, string][]) : []),
          ]}
        />
        <Fields entry={entry} />
        {entry.request && (
          <Link to="/logs" search={{ request: entry.request }} style={{ fontSize: 14 }}>
            {word("auditLog")}
          </Link>
        )}
      </Stack>
    </Modal>
  );
}

export function Audit() {
  const language = useLanguage();
  const [drivers, setDrivers] = useState(false);
  const query = useAudit(true, drivers);
  const [shown, setShown] = useState<AuditEntry | null>(null);
  const drawn = useMemo(() => columns(language, setShown), [language]);
  return (
    <>
      <Switch
        label={word("auditDrivers")}
        checked={drivers}
        onChange={(event) => setDrivers(event.currentTarget.checked)}
        mb="sm"
      />
      <Loaded query={query}>
        {(entries) => (
          <>
            <DataTable label={word("audit")} rows={entries} columns={drawn} id={(one) => String(one.id)} />
            <Cut shown={entries.length} limit={AUDIT_SHOWN_MAX} />
          </>
        )}
      </Loaded>
      {shown && <Details entry={shown} close={() => setShown(null)} />}
    </>
  );
}
