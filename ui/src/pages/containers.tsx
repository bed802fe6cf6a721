import { Button, Group, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { call, path } from "../api";
import { ContainerForm, Form, refresh } from "../dialogs";
import { bytes } from "../format";
import { useLanguage, word } from "../i18n";
import { Loaded, Page, tell } from "../parts";
import { useContainers, useRights } from "../queries";
import { type Column, DataTable } from "../table";
import type { Container } from "../types";

type Dialog = { kind: "create" } | { kind: "edit" | "delete"; container: Container };

export function ContainersPage() {
  const language = useLanguage();
  const query = useContainers();
  const { operate } = useRights();
  const [dialog, setDialog] = useState<Dialog | null>(null);
  const close = () => setDialog(null);
  const columns = useMemo<Column<Container>[]>(() => {
    const all: Column<Container>[] = [
      {
        id: "name",
        title: word("name"),
        value: (one) => one.name,
        show: (one) => (
          <Link to="/containers/$name" params={{ name: one.name }}>
            {one.name}
          </Link>
        ),
        width: "minmax(160px, 2fr)",
      },
      { id: "rf", title: "RF", value: (one) => one.rf, right: true, width: "60px" },
      {
        id: "least",
        title: word("minCopies"),
        value: (one) => one.min_copies,
        show: (one) => (one.strict ? `${one.min_copies} (strict)` : one.min_copies),
        right: true,
      },
      {
        id: "sync",
        title: word("sync"),
        value: (one) => word(one.sync === "always" ? "syncAlways" : "syncFlush"),
      },
      { id: "compression", title: word("compression"), value: (one) => one.compression },
      { id: "volumes", title: word("volumes"), value: (one) => one.volumes, right: true },
      {
        id: "provisioned",
        title: word("provisioned"),
        value: (one) => one.provisioned,
        show: (one) => bytes(one.provisioned),
        right: true,
      },
      {
        id: "quota",
        title: word("quota"),
        value: (one) => one.quota,
        show: (one) => bytes(one.quota),
        right: true,
      },
    ];
    if (operate) {
      all.push({
        id: "actions",
        title: "",
        value: () => null,
        width: "190px",
        show: (container) => (
          <Group gap={4} wrap="nowrap">
            <Button
              size="compact-xs"
              variant="default"
              onClick={() => setDialog({ kind: "edit", container })}
            >
              {word("edit")}
            </Button>
            <Button
              size="compact-xs"
              variant="default"
              disabled={container.volumes > 0}
              onClick={() => setDialog({ kind: "delete", container })}
            >
              {word("delete")}
            </Button>
          </Group>
        ),
      });
    }
    return all;
  }, [operate, language]);
  const remove = async (name: string) => {
    await call("DELETE", `/containers${path(name)}`);
    tell(`${word("delete")}: ${name}`);
    await refresh("containers");
  };
  return (
    <Page
      title="containers"
      actions={
        operate && <Button onClick={() => setDialog({ kind: "create" })}>{word("createContainer")}</Button>
      }
    >
      <Loaded query={query}>
        {(containers) => (
          <DataTable label={word("containers")} rows={containers} columns={columns} id={(one) => one.name} />
        )}
      </Loaded>
      {dialog?.kind === "create" && <ContainerForm close={close} />}
      {dialog?.kind === "edit" && <ContainerForm close={close} container={dialog.container} />}
      {dialog?.kind === "delete" && (
        <Form
          title={word("delete")}
          submit={word("delete")}
          danger
          close={close}
          act={() => remove(dialog.container.name)}
        >
          <Text size="sm">{word("deleteContainer")}</Text>
          <Text size="sm" fw={600}>
            {dialog.container.name}
          </Text>
        </Form>
      )}
    </Page>
  );
}
