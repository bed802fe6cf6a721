// What takes time: what is being worked on, with how far it is, and what has ended.

import { Button, Group, Stack, Text } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { time } from "../format";
import { useLanguage, word } from "../i18n";
import { CancelTasks, OpenTable } from "../open-tasks";
import { Bar, Loaded, Page, Panel, State } from "../parts";
import { useRights, useTasks } from "../queries";
import { tasksRoute } from "../router";
import { type Column, DataTable } from "../table";
import { kindOf, stateOf, unitOf, whoOf } from "../task-words";
import { inTree, isAbout, isOfHardware, isOpen, left, progress, withParts } from "../tasks";
import type { Task } from "../types";

function Running({ task, cancel }: { task: Task; cancel: ((task: Task) => void) | null }) {
  const language = useLanguage();
  const far = progress(task);
  const rest = left(task);
  const name = `${kindOf(task)}: ${task.entity}`;
  return (
    <Stack gap={4} component="article" aria-label={name} ml={task.parent === null ? 0 : "lg"}>
      <Group justify="space-between" wrap="nowrap">
        <Group gap="xs">
          <Text size="sm" fw={600}>
            {name}
          </Text>
          <State state={task.status}>{stateOf(task)}</State>
          {task.cancelled_by !== null && <State state="cancelled">{word("taskStopping")}</State>}
        </Group>
        {cancel && task.cancellable && (
          <Button
            size="compact-xs"
            variant="default"
            aria-label={`${word("taskCancel")}: ${name}`}
            onClick={() => cancel(task)}
          >
            {word("taskCancel")}
          </Button>
        )}
      </Group>
      {far && <Bar label={name} used={far.share} whole={100} small />}
      <Text size="xs" c="dimmed">
        {far && `${Math.floor(far.share)} % (${far.text}${unitOf(task)}) · `}
        {rest && `${word("taskLeft", rest)} · `}
        {time(task.queued_ms, language)} · {whoOf(task)}
      </Text>
      <Text size="xs">{task.message}</Text>
    </Stack>
  );
}

function columns(language: string): Column<Task>[] {
  return [
    {
      id: "id",
      title: word("taskNumber"),
      value: (one) => one.id,
      right: true,
      width: "minmax(70px, 0.4fr)",
    },
    { id: "kind", title: word("taskKind"), value: kindOf, width: "minmax(150px, 1fr)" },
    { id: "entity", title: word("about"), value: (one) => one.entity, width: "minmax(140px, 1fr)" },
    {
      id: "status",
      title: word("state"),
      value: stateOf,
      show: (one) => <State state={one.status}>{stateOf(one)}</State>,
      width: "minmax(120px, 0.7fr)",
    },
    {
      id: "begun",
      title: word("taskBegun"),
      value: (one) => one.queued_ms,
      show: (one) => time(one.queued_ms, language),
      width: "minmax(170px, 1fr)",
    },
    {
      id: "ended",
      title: word("taskEnded"),
      value: (one) => one.ended_ms,
      show: (one) => (one.ended_ms === null ? "–" : time(one.ended_ms, language)),
      width: "minmax(170px, 1fr)",
    },
    {
      id: "who",
      title: word("taskWho"),
      value: whoOf,
      width: "minmax(130px, 1fr)",
    },
    {
      id: "message",
      title: word("message"),
      value: (one) => one.message,
      show: (one) => <span title={one.message}>{one.message}</span>,
      width: "minmax(280px, 3fr)",
    },
  ];
}

function Open({ tasks }: { tasks: Task[] }) {
  const { operate } = useRights();
  const [cancelled, setCancelled] = useState<Task | null>(null);
  return (
    <Stack gap="md">
      {inTree(tasks).map((task) => (
        <Running key={task.id} task={task} cancel={operate ? setCancelled : null} />
      ))}
      {cancelled && <CancelTasks tasks={[cancelled]} close={() => setCancelled(null)} />}
    </Stack>
  );
}

/** Some tasks, on the page of what they are about; nothing when there are none. */
function Some({ tasks }: { tasks: Task[] }) {
  const language = useLanguage();
  const shown = useMemo(() => columns(language), [language]);
  const open = tasks.filter(isOpen);
  const ended = tasks.filter((task) => !isOpen(task));
  if (tasks.length === 0) {
    return null;
  }
  return (
    <Panel title={word("tasks")}>
      <Stack gap="md">
        {open.length > 0 && <Open tasks={open} />}
        {ended.length > 0 && (
          <DataTable
            label={word("tasks")}
            rows={ended}
            columns={shown}
            id={(one) => String(one.id)}
            order={{ column: "id", down: true }}
          />
        )}
      </Stack>
    </Panel>
  );
}

/** The tasks about some things. */
export function TasksOf({ subjects }: { subjects: string[] }) {
  const tasks = useTasks().data?.tasks ?? [];
  const wanted = new Set(subjects);
  return <Some tasks={tasks.filter((task) => isAbout(task, wanted))} />;
}

/** What nodes and disks have had to do while one looks: what ends stays, so that one sees how. */
export function HardwareTasks() {
  const tasks = (useTasks().data?.tasks ?? []).filter(isOfHardware);
  const [seen, setSeen] = useState<ReadonlySet<number>>(new Set());
  const fresh = tasks.filter((task) => isOpen(task) && !seen.has(task.id));
  if (fresh.length > 0) {
    setSeen(new Set([...seen, ...fresh.map((task) => task.id)]));
  }
  return <Some tasks={tasks.filter((task) => seen.has(task.id))} />;
}

/** Says that one task is shown alone, and turns to all. */
function Alone({ task, gone }: { task: number; gone: boolean }) {
  const navigate = useNavigate();
  return (
    <Group gap="xs" mb="sm">
      <Text size="sm" role={gone ? "alert" : "status"}>
        {word(gone ? "taskGone" : "taskOnly", task)}
      </Text>
      <Button
        size="compact-xs"
        variant="default"
        onClick={() => void navigate({ to: "/tasks", search: {}, replace: true })}
      >
        {word("tasksAll")}
      </Button>
    </Group>
  );
}

export function TasksPage() {
  const language = useLanguage();
  const query = useTasks();
  const shown = useMemo(() => columns(language), [language]);
  const { task: only } = tasksRoute.useSearch();
  return (
    <Page title="tasks">
      <Loaded query={query}>
        {({ tasks: all }) => {
          const tasks = only === undefined ? all : withParts(all, only);
          const open = tasks.filter(isOpen);
          return (
            <>
              {only !== undefined && <Alone task={only} gone={tasks.length === 0} />}
              <Panel title={word("tasksOpen")}>
                {open.length === 0 ? <Text size="sm">{word("tasksNone")}</Text> : <OpenTable tasks={open} />}
              </Panel>
              <Panel title={word("tasksEnded")}>
                <DataTable
                  label={word("tasksEnded")}
                  rows={tasks.filter((task) => !isOpen(task))}
                  columns={shown}
                  id={(one) => String(one.id)}
                  order={{ column: "id", down: true }}
                />
              </Panel>
            </>
          );
        }}
      </Loaded>
    </Page>
  );
}
