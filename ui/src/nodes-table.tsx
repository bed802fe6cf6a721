// The nodes as a table.

import { Group } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { bytes } from "./format";
import { fillOf, isExcused, type NodeRow, nodeRows, statesOf } from "./hardware";
import { useLanguage, word } from "./i18n";
import { Actions, type Ask, nodeMember } from "./member-dialogs";
import { Fill, State } from "./parts";
import { useBusiest, useRights } from "./queries";
import { type Column, DataTable } from "./table";
import type { Node, Store } from "./types";

function aboutNode(): Column<NodeRow>[] {
  const domains = (one: NodeRow) => one.domains.join(" / ");
  return [
    {
      id: "name",
      title: word("name"),
      value: (one) => one.name,
      show: (one) => (
        <Link to="/hardware/$name" params={{ name: one.name }} title={one.name}>
          {one.name}
        </Link>
      ),
      width: "minmax(110px, 1fr)",
    },
    {
      id: "state",
      title: word("state"),
      value: (one) =>
        statesOf(one, Date.now())
          .map((state) => word(state))
          .join(", "),
      show: (one) => (
        <Group gap={4} wrap="nowrap">
          {statesOf(one, Date.now()).map((state) => (
            <State key={state} state={state === "maintenance" ? "away" : state}>
              {word(state)}
            </State>
          ))}
        </Group>
      ),
      width: "minmax(130px, 1.2fr)",
    },
    {
      id: "domains",
      title: word("failureDomains"),
      value: (one) => domains(one) || null,
      show: (one) => <span title={domains(one)}>{domains(one) || "–"}</span>,
      width: "minmax(150px, 1fr)",
    },
    {
      id: "address",
      title: word("address"),
      value: (one) => one.address,
      show: (one) => <span title={one.address}>{one.address}</span>,
      width: "minmax(150px, 1fr)",
    },
  ];
}

function aboutSpace(): Column<NodeRow>[] {
  return [
    {
      id: "stores",
      title: word("stores"),
      value: (one) => one.stores.length,
      right: true,
      width: "minmax(75px, 0.5fr)",
    },
    {
      id: "capacity",
      title: word("capacity"),
      value: (one) => one.capacity,
      show: (one) => bytes(one.capacity),
      right: true,
    },
    {
      id: "used",
      title: word("used"),
      value: (one) => one.used,
      show: (one) => bytes(one.used),
      right: true,
    },
    {
      id: "fill",
      title: `${word("fill")} (%)`,
      value: fillOf,
      show: (one) => <Fill label={`${one.name}: ${word("fill")}`} used={one.used} whole={one.capacity} />,
      width: "minmax(120px, 1fr)",
    },
    {
      id: "volumes",
      title: word("volumes"),
      value: (one) => one.volumes,
      show: (one) => one.volumes ?? "–",
      right: true,
      width: "minmax(85px, 0.5fr)",
    },
  ];
}

/** Buttons for those who may. */
function toDo(ask: Ask): Column<NodeRow> {
  return {
    id: "do",
    title: "",
    value: () => null,
    show: (one) => (
      <Actions
        member={nodeMember(one)}
        draining={one.draining}
        excused={isExcused(one, Date.now())}
        ask={ask}
      />
    ),
    width: "minmax(270px, 1fr)",
  };
}

export function NodesTable({ nodes, stores, ask }: { nodes: Node[]; stores: Store[]; ask: Ask }) {
  const language = useLanguage();
  const { operate } = useRights();
  const busiest = useBusiest().data;
  const rows = useMemo(() => nodeRows(nodes, stores, busiest), [nodes, stores, busiest]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const drawn = useMemo(
    () => [...aboutNode(), ...aboutSpace(), ...(operate ? [toDo(ask)] : [])],
    [language, operate, ask],
  );
  return <DataTable label={word("nodes")} rows={rows} columns={drawn} id={(one) => one.name} />;
}
