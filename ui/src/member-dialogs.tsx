// What is done with a node or a store as a member of the cluster, and what is asked before.

import { Button, Group, NumberInput, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useCallback, useState } from "react";
import { call, get, path } from "./api";
import { Form, refresh } from "./dialogs";
import { type Word, word } from "./i18n";
import { Facts, Loaded, tell } from "./parts";
import { useRights } from "./queries";
import type { Node } from "./types";

/** A node or a store. */
export interface Member {
  kind: "nodes" | "stores";
  key: string | number;
  name: string;
}

export const nodeMember = ({ name }: Node): Member => ({ kind: "nodes", key: name, name });
export const storeMember = (id: number): Member => ({ kind: "stores", key: id, name: `store-${id}` });

export type What = "drain" | "endDrain" | "excuse" | "endExcuse" | "remove";
export type Ask = (member: Member, what: What) => void;

interface Ties {
  groups: number;
  leaving: number;
  logs: number;
  volumes: number;
  strays?: number[];
  removable: boolean;
}

const HINTS: Partial<Record<What, Word>> = {
  drain: "drainHint",
  excuse: "excuseHint",
  remove: "removeHint",
};

/** What keeps a member in the cluster. */
function TiesOf({ member }: { member: Member }) {
  const query = useQuery({
    queryKey: ["ties", member.kind, member.key],
    queryFn: () => get<Ties>(`/${member.kind}${path(member.key)}`),
    staleTime: 0,
  });
  return (
    <Loaded query={query}>
      {(ties) =>
        ties.removable ? (
          <Text size="sm">{word("removable")}</Text>
        ) : (
          <Facts
            facts={[
              [word("groups"), `${ties.groups} (+ ${ties.leaving})`],
              [word("tiesLogs"), ties.logs],
              [word("tiesVolumes"), ties.volumes],
              ...(ties.strays?.length
                ? [[word("tiesStrays"), ties.strays.join(", ")] as [string, string]]
                : []),
            ]}
          />
        )
      }
    </Loaded>
  );
}

function Change({ member, what, close }: { member: Member; what: What; close: () => void }) {
  const [minutes, setMinutes] = useState<string | number>(60);
  const act = async () => {
    const where = `/${member.kind}${path(member.key)}`;
    const bodies: Record<Exclude<What, "remove">, object> = {
      drain: { draining: true },
      endDrain: { draining: false },
      excuse: { maintenance_minutes: Number(minutes) },
      endExcuse: { maintenance_minutes: 0 },
    };
    if (what === "remove") {
      await call("DELETE", where);
    } else {
      await call("PATCH", where, bodies[what]);
    }
    tell(`${word(what)}: ${member.name}`);
    await refresh("cluster", "stores", "disks", "resiliency", "tasks");
  };
  const hint = HINTS[what];
  return (
    <Form
      title={`${word(what)}: ${member.name}`}
      submit={word(what)}
      danger={what === "remove"}
      close={close}
      act={act}
    >
      {hint && <Text size="sm">{word(hint)}</Text>}
      {what === "excuse" && (
        <NumberInput label={word("minutes")} min={1} required value={minutes} onChange={setMinutes} />
      )}
      {(what === "drain" || what === "remove") && <TiesOf member={member} />}
    </Form>
  );
}

/** How a page asks before it changes members, and the dialog while it is asked. */
export function useChange(): { ask: Ask; dialog: ReactNode } {
  const [asked, setAsked] = useState<{ member: Member; what: What } | null>(null);
  const ask = useCallback<Ask>((member, what) => setAsked({ member, what }), []);
  return { ask, dialog: asked && <Change {...asked} close={() => setAsked(null)} /> };
}

export function ChangeButton({ member, what, ask }: { member: Member; what: What; ask: Ask }) {
  return (
    <Button
      size="compact-xs"
      variant="default"
      aria-label={`${word(what)}: ${member.name}`}
      onClick={() => ask(member, what)}
    >
      {word(what)}
    </Button>
  );
}

export function Actions(props: { member: Member; draining: boolean; excused: boolean; ask: Ask }) {
  const { member, draining, excused, ask } = props;
  const { operate, administer } = useRights();
  if (!operate) {
    return null;
  }
  return (
    <Group gap={4}>
      <ChangeButton member={member} what={draining ? "endDrain" : "drain"} ask={ask} />
      <ChangeButton member={member} what={excused ? "endExcuse" : "excuse"} ask={ask} />
      {administer && <ChangeButton member={member} what="remove" ask={ask} />}
    </Group>
  );
}
