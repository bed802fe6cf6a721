// What is under way as a table, and how tasks are cancelled.

import { Button, Group, Text } from "@mantine/core";
import { useMemo, useState } from "react";
import { call, path } from "./api";
import { each, Form, refresh } from "./dialogs";
import { time } from "./format";
import { useLanguage, word } from "./i18n";
import { Bar, State } from "./parts";
import { useRights } from "./queries";
import { AS_GIVEN, type Column, DataTable } from "./table";
import { kindOf, stateOf, unitOf, whoOf } from "./task-words";
import { cancellable, inTree, left, progress } from "./tasks";
import type { Task } from "./types";

export const titleOf = (task: Task): string => `${kindOf(task)}: ${task.entity}`;

/** Asks before tasks are cancelled. */
export function CancelTasks({
  tasks,
  close,
  after,
}: {
  tasks: Task[];
  close: () => void;
  after?: () => void;
}) {
  const act = async () => {
    await each(tasks, (task) => call("POST", `/tasks${path(task.id)}/cancel`, {}));
    await refresh("tasks");
    after?.();
  };
  return (
    <Form title={word("taskCancel")} submit={word("taskCancel")} danger close={close} act={act}>
      {tasks.length > 1 && <Text size="sm">{word("tasksCancel", tasks.length)}</Text>}
      {tasks.map((task) => (
        <Text size="sm" fw={600} key={task.id}>
          {titleOf(task)}
        </Text>
      ))}
      <Text size="sm">{word("taskCancelHint")}</Text>
    </Form>
  );
}

function Progress({ task }: { task: Task }) {
  const far = progress(task);
  if (!far) {
    return "–";
  }
  const text = `${Math.floor(far.share)} % (${far.text}${unitOf(task)})`;
  return (
    <Group gap={6} wrap="nowrap" title={text}>
      <div style={{ flex: "0 0 70px" }}>
        <Bar label={titleOf(task)} used={far.share} whole={100} small />
      </div>
      <span>{text}</span>
    </Group>
  );
}

function Kind({ task }: { task: Task }) {
  return (
    <span>
      {task.parent !== null && <span aria-hidden>↳ </span>}
      {kindOf(task)}
    </span>
  );
}

function about(): Column<Task>[] {
  return [
    { id: "id", title: word("taskNumber"), value: (one) => one.id, right: true, width: "70px" },
    {
      id: "kind",
      title: word("taskKind"),
      value: kindOf,
      show: (one) => <Kind task={one} />,
      width: "minmax(130px, 1fr)",
    },
    { id: "entity", title: word("about"), value: (one) => one.entity, width: "minmax(140px, 1fr)" },
    {
      id: "status",
      title: word("state"),
      value: stateOf,
      show: (one) => (
        <>
          <State state={one.status}>{stateOf(one)}</State>{" "}
          {one.cancelled_by !== null && <State state="cancelled">{word("taskStopping")}</State>}
        </>
      ),
      width: "minmax(110px, 0.7fr)",
    },
  ];
}

function howFar(language: string): Column<Task>[] {
  return [
    {
      id: "progress",
      title: word("taskProgress"),
      value: (one) => progress(one)?.share ?? null,
      show: (one) => <Progress task={one} />,
      width: "minmax(240px, 1.5fr)",
    },
    {
      id: "left",
      title: word("taskRest"),
      value: (one) => (left(one) === null ? null : (one.eta_ms ?? 0) - one.updated_ms),
      show: (one) => left(one) ?? "–",
      right: true,
      width: "90px",
    },
    {
      id: "message",
      title: word("message"),
      value: (one) => one.message,
      show: (one) => <span title={one.message}>{one.message}</span>,
      width: "minmax(220px, 2fr)",
    },
    {
      id: "begun",
      title: word("taskBegun"),
      value: (one) => one.queued_ms,
      show: (one) => time(one.queued_ms, language),
      width: "minmax(160px, 1fr)",
    },
    { id: "who", title: word("taskWho"), value: whoOf, width: "minmax(120px, 1fr)" },
    {
      id: "parent",
      title: word("taskPartOf"),
      value: (one) => one.parent,
      show: (one) => one.parent ?? "–",
      right: true,
      width: "80px",
    },
  ];
}

function toDo(cancel: (task: Task) => void): Column<Task> {
  return {
    id: "do",
    title: "",
    value: () => null,
    show: (one) =>
      cancellable([one]).length > 0 && (
        <Button
          size="compact-xs"
          variant="default"
          aria-label={`${word("taskCancel")}: ${titleOf(one)}`}
          onClick={() => cancel(one)}
        >
          {word("taskCancel")}
        </Button>
      ),
    width: "90px",
  };
}

interface Asked {
  tasks: Task[];
  after?: () => void;
}

/** Parts stand behind their task until somebody sorts. */
export function OpenTable({ tasks }: { tasks: Task[] }) {
  const language = useLanguage();
  const { operate } = useRights();
  const [asked, setAsked] = useState<Asked | null>(null);
  const drawn = useMemo(
    () => [
      ...about(),
      ...howFar(language),
      ...(operate ? [toDo((task) => setAsked({ tasks: [task] }))] : []),
    ],
    [language, operate],
  );
  const buttons = (chosen: Task[], done: () => void) => {
    const some = cancellable(chosen);
    return (
      <Button
        size="xs"
        color="red"
        disabled={some.length === 0}
        onClick={() => setAsked({ tasks: some, after: done })}
      >
        {word("taskCancel")}
      </Button>
    );
  };
  return (
    <>
      <DataTable
        label={word("tasksOpen")}
        rows={inTree(tasks)}
        columns={drawn}
        id={(one) => String(one.id)}
        order={AS_GIVEN}
        actions={operate ? buttons : undefined}
      />
      {asked && <CancelTasks {...asked} close={() => setAsked(null)} />}
    </>
  );
}
