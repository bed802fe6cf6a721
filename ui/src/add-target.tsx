// Somebody who shall hear of alerts: a webhook, a mail server, an Alertmanager.

import { PasswordInput, Select, Textarea, TextInput } from "@mantine/core";
import { useState } from "react";
import { call } from "./api";
import { Form, refresh } from "./dialogs";
import { valueWord, word } from "./i18n";
import { tell } from "./parts";
import { specOf, type TargetFields, type TargetKind } from "./targets";

const KINDS: TargetKind[] = ["webhook", "mail", "alertmanager"];
const SEVERITIES = ["info", "warning", "critical"];
const EMPTY: TargetFields = {
  kind: "webhook",
  name: "",
  minimum: "info",
  url: "",
  secret: "",
  server: "",
  security: "starttls",
  user: "",
  password: "",
  from: "",
  to: "",
  ca: "",
};

export function AddTarget({ close }: { close: () => void }) {
  const [fields, setFields] = useState(EMPTY);
  const set = (changed: Partial<TargetFields>) => setFields({ ...fields, ...changed });
  const text = (name: keyof TargetFields, label: string, required = false) => (
    <TextInput
      label={label}
      required={required}
      value={fields[name]}
      onChange={(event) => set({ [name]: event.currentTarget.value })}
    />
  );
  const secret = (name: "secret" | "password", label: string) => (
    <PasswordInput
      label={label}
      autoComplete="new-password"
      value={fields[name]}
      onChange={(event) => set({ [name]: event.currentTarget.value })}
    />
  );
  const mail = fields.kind === "mail";
  const act = async () => {
    const spec = specOf(fields);
    await call("POST", "/alert-targets", spec);
    tell(`${word("targetAdd")}: ${spec.name}`);
    await refresh("alert-targets");
  };
  return (
    <Form title={word("targetAdd")} submit={word("create")} close={close} act={act}>
      <Select
        label={word("kind")}
        data={KINDS.map((value) => ({ value, label: valueWord("target", value) }))}
        allowDeselect={false}
        value={fields.kind}
        onChange={(kind) => set({ kind: (kind as TargetKind | null) ?? "webhook" })}
      />
      {text("name", word("name"), true)}
      <Select
        label={word("targetMinimum")}
        data={SEVERITIES.map((value) => ({ value, label: valueWord("severity", value) }))}
        allowDeselect={false}
        value={fields.minimum}
        onChange={(minimum) => set({ minimum: minimum ?? "info" })}
      />
      {!mail && text("url", "URL", true)}
      {fields.kind === "webhook" && secret("secret", word("targetSecret"))}
      {mail && (
        <>
          {text("server", word("targetServer"), true)}
          <Select
            label={word("targetSecurity")}
            data={["starttls", "tls", "none"].map((value) => ({
              value,
              label: valueWord("security", value),
            }))}
            allowDeselect={false}
            value={fields.security}
            onChange={(security) => set({ security: security ?? "starttls" })}
          />
          {text("from", word("targetFrom"), true)}
          {text("to", word("targetReceivers"), true)}
        </>
      )}
      {fields.kind !== "webhook" && text("user", word("targetUser"))}
      {fields.kind !== "webhook" && secret("password", word("targetPassword"))}
      <Textarea
        label={word("targetCa")}
        autosize
        minRows={2}
        maxRows={6}
        value={fields.ca}
        onChange={(event) => set({ ca: event.currentTarget.value })}
      />
    </Form>
  );
}
