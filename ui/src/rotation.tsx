// The authority's change, from the first button to the last: who may, what it means, and how far it is.

import { Alert, Button, Checkbox, Group, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { call } from "./api";
import { rotationOf } from "./authority";
import { Form } from "./dialogs";
import { word } from "./i18n";
import { tell } from "./parts";
import { client, useRights } from "./queries";
import type { Authority } from "./types";

/** The answer says what is so now: no page waits for the next look. */
async function change(verb: "rotate" | "retire", body: object, done: string): Promise<void> {
  const now = await call<Authority>("POST", `/authority/${verb}`, body);
  client.setQueryData(["authority"], now);
  tell(`${done}: ${now.fingerprint.slice(0, 16)}`);
  await client.invalidateQueries({ queryKey: ["audit"] });
}

function Rotate({ close }: { close: () => void }) {
  return (
    <Form
      title={word("rotateAuthority")}
      submit={word("rotateAuthority")}
      danger
      close={close}
      act={() => change("rotate", {}, word("authorityRotating"))}
    >
      <Text size="sm">{word("rotateMeans")}</Text>
      <Text size="sm">{word("rotateKeep")}</Text>
    </Form>
  );
}

function Retire({ behind, close }: { behind: string[]; close: () => void }) {
  const [given, setGiven] = useState(false);
  const [force, setForce] = useState(false);
  return (
    <Form
      title={word("retireAuthority")}
      submit={word("retireAuthority")}
      danger
      close={close}
      act={() => change("retire", { force }, word("authorityRetired"))}
    >
      <Text size="sm">{word("retireMeans")}</Text>
      <Checkbox
        label={word("retireGiven")}
        required
        checked={given}
        onChange={(event) => setGiven(event.currentTarget.checked)}
      />
      {behind.length > 0 && (
        <Checkbox
          label={`${word("retireForce")} ${behind.join(", ")}`}
          required
          checked={force}
          onChange={(event) => setForce(event.currentTarget.checked)}
        />
      )}
    </Form>
  );
}

export function RotationPanel({ authority }: { authority: Authority }) {
  const { administer } = useRights();
  const [dialog, setDialog] = useState<"rotate" | "retire" | null>(null);
  const { state, behind } = rotationOf(authority);
  const close = () => setDialog(null);
  return (
    <Stack gap="sm">
      {state !== "none" && (
        <Alert
          color={state === "renewed" ? "cyan" : "yellow"}
          variant="outline"
          title={word("rotationUnderWay")}
          role="status"
        >
          <Text size="sm">
            {state === "renewed"
              ? word("rotationRenewed")
              : `${word("rotationRenewing")} ${behind.join(", ")}`}
          </Text>
          <Text size="sm">{word("rotationNext")}</Text>
        </Alert>
      )}
      {administer && (
        <Group>
          {state === "none" ? (
            <Button variant="default" onClick={() => setDialog("rotate")}>
              {word("rotateAuthority")}
            </Button>
          ) : (
            <Button color="red" variant="outline" onClick={() => setDialog("retire")}>
              {word("retireAuthority")}
            </Button>
          )}
        </Group>
      )}
      {dialog === "rotate" && <Rotate close={close} />}
      {dialog === "retire" && <Retire behind={behind} close={close} />}
    </Stack>
  );
}
