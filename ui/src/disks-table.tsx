// The disks of all nodes, or of one, as a table; and what can be done with each.

import { Button, Group } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { call, path } from "./api";
import { refresh } from "./dialogs";
import { AddDisks, ReplaceDisks } from "./disk-dialogs";
import { bytes, micros } from "./format";
import { diskName, fillOf } from "./hardware";
import { useLanguage, valueWord, word } from "./i18n";
import { type Ask, ChangeButton, storeMember, useChange } from "./member-dialogs";
import { complain, Fill, Loaded, State, tell } from "./parts";
import { useDisks, useRights } from "./queries";
import { type Column, DataTable } from "./table";
import type { Disk } from "./types";

/** A text that may be longer than its cell, or not known. */
function text(id: string, title: string, value: (one: Disk) => string | null, width: string): Column<Disk> {
  const show = (one: Disk) => {
    const shown = value(one);
    return shown === null ? "–" : <span title={shown}>{shown}</span>;
  };
  return { id, title, value, show, width };
}

function whichDisk(): Column<Disk>[] {
  return [
    {
      id: "node",
      title: word("node"),
      value: (one) => one.node,
      show: (one) => (
        <Link to="/hardware/$name" params={{ name: one.node }} title={one.node}>
          {one.node}
        </Link>
      ),
      width: "minmax(100px, 0.6fr)",
    },
    text("store", word("store"), (one) => `store-${one.store}`, "minmax(85px, 0.4fr)"),
    text("path", word("diskPath"), (one) => one.path || null, "minmax(190px, 2fr)"),
    text("model", word("diskModel"), (one) => one.model ?? null, "minmax(90px, 0.8fr)"),
    text("serial", word("diskSerial"), (one) => one.serial ?? null, "minmax(120px, 0.8fr)"),
    {
      id: "size",
      title: word("size"),
      value: (one) => one.size,
      show: (one) => bytes(one.size),
      right: true,
      width: "minmax(90px, 0.4fr)",
    },
  ];
}

/** The columns about its store, but for the light, which is its own. */
function howIsIt(): Column<Disk>[] {
  const lit = (one: Disk) => one.light === true;
  return [
    {
      id: "state",
      title: word("state"),
      value: (one) =>
        [valueWord("state", one.state), one.reason, lit(one) && word("lightOn")].filter(Boolean).join(": "),
      show: (one) => (
        <>
          <State state={one.state} of="state" />{" "}
          {lit(one) && <State state="candidate">{word("lightOn")}</State>}{" "}
          {one.reason && <span title={one.reason}>{one.reason}</span>}
        </>
      ),
      width: "minmax(190px, 1.5fr)",
    },
    {
      id: "standing",
      title: word("standing"),
      value: (one) => valueWord("standing", one.standing),
      show: (one) => <State state={one.standing} of="standing" />,
      width: "minmax(105px, 0.5fr)",
    },
    {
      id: "fill",
      title: `${word("storeFill")} (%)`,
      value: fillOf,
      show: (one) => (
        <Fill label={`${diskName(one)}: ${word("storeFill")}`} used={one.used} whole={one.capacity} />
      ),
      width: "minmax(155px, 0.8fr)",
    },
    {
      id: "groups",
      title: word("groups"),
      value: (one) => one.groups,
      right: true,
      width: "minmax(75px, 0.3fr)",
    },
    took("read_us", word("diskRead")),
    took("write_us", word("diskWrite")),
    took("flush_us", word("diskFlush")),
  ];
}

/** How long operations of the store's disks took in the mean. */
function took(id: "read_us" | "write_us" | "flush_us", title: string): Column<Disk> {
  return {
    id,
    title: `${title} (µs)`,
    value: (one) => one[id] ?? null,
    show: (one) => (one[id] == null ? "–" : micros(one[id])),
    right: true,
    width: "minmax(115px, 0.4fr)",
  };
}

/** Switches the light of a disk; one without a light says so, to the keyboard, too. */
function Locate({ disk }: { disk: Disk }) {
  const [busy, setBusy] = useState(false);
  const on = disk.light === true;
  const what = word(on ? "endLocate" : "locate");
  const label = `${what}: ${diskName(disk)}`;
  if (disk.light == null) {
    return (
      <Button
        size="compact-xs"
        variant="default"
        aria-label={label}
        aria-disabled
        data-disabled
        title={word(disk.path === "" ? "locateAway" : "locateNone")}
      >
        {what}
      </Button>
    );
  }
  const turn = async () => {
    setBusy(true);
    try {
      await call<Disk[]>("POST", `/disks${path(disk.store, "locate")}`, { path: disk.path, on: !on });
      tell(`${word(on ? "lightOff" : "lightOn")}: ${diskName(disk)}`);
      await refresh("disks");
    } catch (error) {
      complain(error);
    }
    setBusy(false);
  };
  return (
    <Button size="compact-xs" variant="default" aria-label={label} loading={busy} onClick={() => void turn()}>
      {what}
    </Button>
  );
}

/** Buttons for those who may: the light is the disk's, everything else is about its store. */
function toDo(administer: boolean, ask: Ask, replace: (store: number) => void): Column<Disk> {
  const show = (one: Disk) => {
    const store = storeMember(one.store);
    return (
      <Group gap={4} wrap="nowrap">
        <Locate disk={one} />
        <ChangeButton member={store} what={one.standing === "draining" ? "endDrain" : "drain"} ask={ask} />
        {administer && (
          <>
            <Button
              size="compact-xs"
              variant="default"
              aria-label={`${word("replaceDisks")}: ${store.name}`}
              onClick={() => replace(one.store)}
            >
              {word("replaceDisks")}
            </Button>
            <ChangeButton member={store} what="remove" ask={ask} />
          </>
        )}
      </Group>
    );
  };
  return { id: "do", title: "", value: () => null, show, width: "minmax(350px, 1fr)" };
}

/** The disks of all nodes; or of one, whose name is then said no more. */
export function DisksTable({ node }: { node?: string }) {
  const language = useLanguage();
  const query = useDisks();
  const { operate, administer } = useRights();
  const { ask, dialog } = useChange();
  const [replaced, setReplaced] = useState<number | null>(null);
  const [adding, setAdding] = useState(false);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the columns' words change with the language
  const drawn = useMemo(() => {
    const about = [...whichDisk(), ...howIsIt()].filter(({ id }) => id !== "node" || node === undefined);
    return operate ? [...about, toDo(administer, ask, setReplaced)] : about;
  }, [language, node, operate, administer, ask]);
  return (
    <>
      <Loaded query={query}>
        {(disks) => (
          <DataTable
            label={word("disks")}
            rows={disks.filter((one) => node === undefined || one.node === node)}
            columns={drawn}
            id={(one) => `${one.store} ${diskName(one)}`}
            extra={
              operate && (
                <Button size="xs" onClick={() => setAdding(true)}>
                  {word("addDisks")}
                </Button>
              )
            }
          />
        )}
      </Loaded>
      {dialog}
      {replaced !== null && <ReplaceDisks store={replaced} close={() => setReplaced(null)} />}
      {adding && <AddDisks node={node} close={() => setAdding(false)} />}
    </>
  );
}
