// Disks that come, and disks that follow others.

import { Checkbox, Select, Text, Textarea } from "@mantine/core";
import { useState } from "react";
import { call, path } from "./api";
import { Form, refresh } from "./dialogs";
import { linesOf } from "./hardware";
import { word } from "./i18n";
import { inOrder, tell } from "./parts";
import { useCluster, useRights } from "./queries";

/** Which disks, and what may be destroyed on them. */
interface Which {
  paths: string;
  overrides: string;
}

const NONE: Which = { paths: "", overrides: "" };
const bodyOf = (which: Which) => ({ paths: linesOf(which.paths), overrides: linesOf(which.overrides) });
const changed = () => refresh("disks", "stores", "cluster", "resiliency", "tasks");

function WhichDisks({ which, set }: { which: Which; set: (which: Which) => void }) {
  // Nobody else may destroy what is on a disk.
  const { administer } = useRights();
  return (
    <>
      <Textarea
        label={word("diskPaths")}
        description={word("diskPathsHint")}
        required
        rows={3}
        value={which.paths}
        onChange={(event) => set({ ...which, paths: event.currentTarget.value })}
      />
      {administer && (
        <Textarea
          label={word("diskOverrides")}
          description={word("diskOverridesHint")}
          rows={2}
          value={which.overrides}
          onChange={(event) => set({ ...which, overrides: event.currentTarget.value })}
        />
      )}
    </>
  );
}

export function ReplaceDisks({ store, close }: { store: number; close: () => void }) {
  const [which, setWhich] = useState(NONE);
  const [lost, setLost] = useState(false);
  const title = `${word("replaceDisks")}: store-${store}`;
  const act = async () => {
    await call("POST", `/disks${path(store, "replace")}`, { ...bodyOf(which), lost });
    tell(title);
    await changed();
  };
  return (
    <Form title={title} submit={word("replaceDisks")} danger close={close} act={act}>
      <Text size="sm">{word("replaceHint")}</Text>
      <WhichDisks which={which} set={setWhich} />
      <Checkbox
        label={word("diskLost")}
        checked={lost}
        onChange={(event) => setLost(event.currentTarget.checked)}
      />
    </Form>
  );
}

/** Makes disks of a node, this one at first, a new store. */
export function AddDisks({ node, close }: { node?: string; close: () => void }) {
  const nodes = inOrder(useCluster().data?.nodes ?? []).filter((one) => one.alive && !one.candidate);
  const [where, setWhere] = useState<string | null>(node ?? null);
  const [which, setWhich] = useState(NONE);
  const act = async () => {
    if (where === null) {
      throw new Error(word("chooseNode"));
    }
    await call("POST", "/disks", { node: where, ...bodyOf(which) });
    tell(`${word("addDisks")}: ${where}`);
    await changed();
  };
  return (
    <Form title={word("addDisks")} submit={word("addDisks")} close={close} act={act}>
      <Text size="sm">{word("addDisksHint")}</Text>
      <Select
        label={word("node")}
        placeholder={word("chooseNode")}
        required
        allowDeselect={false}
        data={nodes.map((one) => one.name)}
        value={where}
        onChange={setWhere}
      />
      <WhichDisks which={which} set={setWhich} />
    </Form>
  );
}
