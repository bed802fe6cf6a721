// The stores of all nodes as a table.

import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { bytes, time } from "./format";
import { fillOf, isExcused } from "./hardware";
import { useLanguage, valueWord, word } from "./i18n";
import { Actions, type Ask, storeMember } from "./member-dialogs";
import { Fill, State } from "./parts";
import { useRights } from "./queries";
import { type Column, DataTable } from "./table";
import type { Node, Store } from "./types";

interface StoreRow extends Store {
  name: string;
  nodeName: string;
}

function which(language: string): Column<StoreRow>[] {
  const domains = (one: StoreRow) => (one.domains ?? []).toReversed().join(" / ");
  return [
    { id: "store", title: word("store"), value: (one) => one.name, width: "minmax(85px, 0.5fr)" },
    {
      id: "node",
      title: word("node"),
      value: (one) => one.nodeName,
      show: (one) => (
        <Link to="/hardware/$name" params={{ name: one.nodeName }}>
          {one.nodeName}
        </Link>
      ),
      width: "minmax(100px, 0.8fr)",
    },
    {
      id: "domains",
      title: word("failureDomains"),
      value: (one) => domains(one) || null,
      show: (one) => <span title={domains(one)}>{domains(one) || "–"}</span>,
      width: "minmax(130px, 1fr)",
    },
    {
      id: "state",
      title: word("state"),
      value: (one) => [valueWord("state", one.state), one.reason].filter(Boolean).join(": "),
      show: (one) => (
        <>
          <State state={one.state} of="state" /> {one.reason && <span title={one.reason}>{one.reason}</span>}
        </>
      ),
      width: "minmax(140px, 1.2fr)",
    },
    {
      id: "standing",
      title: word("standing"),
      value: (one) => valueWord("standing", one.standing),
      show: (one) => <State state={one.standing} of="standing" />,
      width: "minmax(105px, 0.5fr)",
    },
    {
      id: "maintenance",
      title: `${word("maintenance")} (${word("until")})`,
      value: (one) => (isExcused(one, Date.now()) ? (one.maintenance_until_ms ?? null) : null),
      show: (one) =>
        isExcused(one, Date.now()) ? (
          <State state="away">{time(one.maintenance_until_ms ?? 0, language)}</State>
        ) : (
          "–"
        ),
      width: "minmax(160px, 0.8fr)",
    },
  ];
}

function size(id: string, title: string, value: (one: StoreRow) => number | null): Column<StoreRow> {
  return { id, title, value, show: (one) => bytes(value(one)), right: true };
}

function number(id: "extents" | "groups" | "filling" | "leaving", title: string): Column<StoreRow> {
  return { id, title, value: (one) => one[id], right: true, width: "minmax(85px, 0.4fr)" };
}

function fill(
  id: string,
  title: string,
  space: (one: StoreRow) => { used: number; capacity: number },
): Column<StoreRow> {
  return {
    id,
    title: `${title} (%)`,
    value: (one) => fillOf(space(one)),
    show: (one) => (
      <Fill label={`${one.name}: ${title}`} used={space(one).used} whole={space(one).capacity} />
    ),
    width: "minmax(140px, 0.8fr)",
  };
}

function howMuch(): Column<StoreRow>[] {
  return [
    size("capacity", word("capacity"), (one) => one.capacity),
    size("used", word("used"), (one) => one.used),
    fill("fill", word("fill"), (one) => one),
    size("kept", word("spaceKept"), (one) => one.kept_back ?? null),
    fill("journal", word("journalFill"), (one) => ({
      used: one.journal_used,
      capacity: one.journal_capacity,
    })),
    number("extents", word("extents")),
    number("groups", word("groups")),
    number("filling", word("filling")),
    number("leaving", word("leaving")),
  ];
}

function toDo(ask: Ask): Column<StoreRow> {
  return {
    id: "do",
    title: "",
    value: () => null,
    show: (one) => (
      <Actions
        member={storeMember(one.id)}
        draining={one.standing === "draining"}
        excused={isExcused(one, Date.now())}
        ask={ask}
      />
    ),
    width: "minmax(270px, 1fr)",
  };
}

export function StoresTable({ nodes, stores, ask }: { nodes: Node[]; stores: Store[]; ask: Ask }) {
  const language = useLanguage();
  const { operate } = useRights();
  const rows = useMemo(() => {
    const names = new Map(nodes.map((node) => [node.id, node.name]));
    return stores.map((store) => ({
      ...store,
      name: `store-${store.id}`,
      nodeName: names.get(store.node) ?? `node-${store.node}`,
    }));
  }, [nodes, stores]);
  const drawn = useMemo(
    () => [...which(language), ...howMuch(), ...(operate ? [toDo(ask)] : [])],
    [language, operate, ask],
  );
  return <DataTable label={word("stores")} rows={rows} columns={drawn} id={(one) => one.name} />;
}
