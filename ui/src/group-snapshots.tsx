// Group snapshots: one point in time of several volumes each, what is in it, and its deletion.

import { Button, Modal, Stack, Table, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { call, path } from "./api";
import { each, Form, refresh } from "./dialogs";
import { bytes, time } from "./format";
import { freesOfSnapshots } from "./frees";
import { memberName, stateOfGroup } from "./groups-of-snapshots";
import { useLanguage, valueWord, type Word, word } from "./i18n";
import { Facts, Loaded, State } from "./parts";
import { useGroupSnapshots, useRights } from "./queries";
import { type Column, DataTable } from "./table";
import type { GroupSnapshot, Snapshot } from "./types";
import { WillFree } from "./will-free";

/** Leads to the member's volume, if that is still there. */
function Member({ snapshot }: { snapshot: Snapshot }) {
  return snapshot.volume === null ? (
    word("volumeGone", snapshot.volume_id)
  ) : (
    <Link to="/volumes/$name" params={{ name: snapshot.volume }}>
      {snapshot.volume}
    </Link>
  );
}

function columns(language: string, open: (id: string) => void): Column<GroupSnapshot>[] {
  return [
    {
      id: "name",
      title: word("name"),
      value: (one) => one.name,
      show: (one) => (
        <button type="button" className="grid-sort" title={one.name} onClick={() => open(one.id)}>
          {one.name}
        </button>
      ),
      width: "minmax(160px, 2fr)",
    },
    {
      id: "created",
      title: word("created"),
      value: (one) => one.created_ms,
      show: (one) => time(one.created_ms, language),
      width: "minmax(160px, 1fr)",
    },
    {
      id: "state",
      title: word("state"),
      value: (one) => valueWord("state", stateOfGroup(one)),
      show: (one) => <State state={stateOfGroup(one)} of="state" />,
      width: "minmax(110px, 0.6fr)",
    },
    {
      id: "count",
      title: word("groupMembers"),
      value: (one) => one.snapshots.length,
      right: true,
      width: "minmax(160px, 0.6fr)",
    },
    {
      id: "volumes",
      title: word("volumes"),
      value: (one) => one.snapshots.map((member) => member.volume ?? "").join(" ") || null,
      show: (one) =>
        one.snapshots.map((member, at) => (
          <span key={member.id}>
            {at > 0 && ", "}
            <Member snapshot={member} />
          </span>
        )),
      width: "minmax(260px, 4fr)",
    },
    { id: "id", title: "ID", value: (one) => one.id, right: true, width: "minmax(90px, 0.4fr)" },
  ];
}

/** What is in one. */
function Details({ group, close }: { group: GroupSnapshot; close: () => void }) {
  const language = useLanguage();
  const titles: Word[] = ["ofVolume", "name", "size", "mapped", "state"];
  return (
    <Modal
      opened
      onClose={close}
      size="xl"
      title={`${word("groupSnapshot")}: ${group.name}`}
      closeButtonProps={{ "aria-label": word("close") }}
    >
      <Stack>
        <Facts
          facts={[
            ["ID", group.id],
            [word("created"), time(group.created_ms, language)],
            [word("state"), <State key="state" state={stateOfGroup(group)} of="state" />],
          ]}
        />
        <Table aria-label={word("groupMembers")}>
          <Table.Thead>
            <Table.Tr>
              {titles.map((title) => (
                <Table.Th key={title}>{word(title)}</Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {group.snapshots.map((member) => (
              <Table.Tr key={member.id}>
                <Table.Td>
                  <Member snapshot={member} />
                </Table.Td>
                <Table.Td style={{ overflowWrap: "anywhere" }}>{member.name}</Table.Td>
                <Table.Td>{bytes(member.size)}</Table.Td>
                <Table.Td>{bytes(member.mapped)}</Table.Td>
                <Table.Td>
                  <State state={member.state} of="state" />
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Stack>
    </Modal>
  );
}

/** Deletes each as a whole, which is one task. */
function DeleteGroups(props: { groups: GroupSnapshot[]; close: () => void; after: () => void }) {
  const { groups, close, after } = props;
  const members = groups.flatMap((group) => group.snapshots);
  const act = async () => {
    await each(groups, (group) => call("DELETE", `/group-snapshots${path(group.id)}`));
    await refresh("snapshots", "group-snapshots", "tasks");
    after();
  };
  return (
    <Form title={word("delete")} submit={word("delete")} danger close={close} act={act}>
      <Text size="sm">{word("deleteGroupsHint")}</Text>
      <Text size="sm" fw={600} style={{ overflowWrap: "anywhere" }}>
        {groups.map((group) => group.name).join(", ")}
      </Text>
      <Text size="sm" style={{ overflowWrap: "anywhere" }}>
        {word("deleteGroupsMembers", members.length)} {members.map(memberName).join(", ")}
      </Text>
      <WillFree
        what={members.map((one) => `snapshot/${one.id}`).join()}
        read={() => freesOfSnapshots(members)}
      />
    </Form>
  );
}

/** All of them; `filter` is that of the address. */
export function GroupSnapshotsTable({ filter }: { filter?: string }) {
  const language = useLanguage();
  const query = useGroupSnapshots();
  const { operate } = useRights();
  const [opened, setOpened] = useState<string | null>(null);
  const [dialog, setDialog] = useState<{ groups: GroupSnapshot[]; done: () => void } | null>(null);
  const drawn = useMemo(() => columns(language, setOpened), [language]);
  // As it is now: it may get its members, or go, while one looks at it.
  const shown = query.data?.find((one) => one.id === opened);
  return (
    <>
      <Loaded query={query}>
        {(groups) => (
          <DataTable
            key={filter}
            first={filter}
            label={word("groupSnapshots")}
            rows={groups}
            columns={drawn}
            id={(one) => `${one.name} (${one.id})`}
            actions={
              operate
                ? (chosen, done) => (
                    <Button size="xs" color="red" onClick={() => setDialog({ groups: chosen, done })}>
                      {word("delete")}
                    </Button>
                  )
                : undefined
            }
          />
        )}
      </Loaded>
      {shown && <Details group={shown} close={() => setOpened(null)} />}
      {dialog && <DeleteGroups groups={dialog.groups} close={() => setDialog(null)} after={dialog.done} />}
    </>
  );
}
