// The text of a StorageClass, from what somebody chose. What the driver would refuse is said before.

import type { Word } from "./i18n";

export interface ClassFields {
  name: string;
  /** Whether claims without a class get it. */
  standard: boolean;
  /** Empty, here and below: left open. */
  container: string;
  fileSystem: string;
  copies: string;
  compression: string;
  sync: string;
  iopsLimit: string;
  bandwidthLimit: string;
  attach: string;
  reclaimPolicy: string;
  expansion: boolean;
  binding: string;
  /** With blanks between them. */
  mountOptions: string;
}

export const CLASS_AT_FIRST: ClassFields = {
  name: "",
  standard: false,
  container: "",
  fileSystem: "ext4",
  copies: "",
  compression: "",
  sync: "",
  iopsLimit: "",
  bandwidthLimit: "",
  attach: "",
  reclaimPolicy: "Delete",
  expansion: true,
  binding: "Immediate",
  mountOptions: "",
};

/** What is wrong with a field, in words with their values. */
export interface Problem {
  field: keyof ClassFields;
  word: Word;
  values: (string | number)[];
}

/** A container's policies, as far as a class may ask for them. */
interface Policies {
  name: string;
  rf: number;
  sync: string;
  compression: string;
}

const PROVISIONER = "csi.azekura.dev";
const DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class";
/** Bounds of the driver: crates/csi/src/capability.rs. */
const OPTIONS_MAX = 64;
const DRIVERS_OPTIONS = ["bind", "rbind", "remount", "move", "loop", "offset", "sizelimit"];
const CONTEXTS = ["context", "fscontext", "defcontext", "rootcontext"];
const U64_MAX = 2n ** 64n - 1n;
const UNITS: Record<string, bigint> = {
  "": 1n,
  Ki: 2n ** 10n,
  Mi: 2n ** 20n,
  Gi: 2n ** 30n,
  Ti: 2n ** 40n,
  k: 10n ** 3n,
  M: 10n ** 6n,
  G: 10n ** 9n,
  T: 10n ** 12n,
};

function isCount(text: string): boolean {
  return /^\d{1,20}$/.test(text) && BigInt(text) <= U64_MAX;
}

function isQuantity(text: string): boolean {
  const [, digits, suffix] = /^(\d{1,20})([A-Za-z]*)$/.exec(text) ?? [];
  const unit = UNITS[suffix ?? ""];
  return digits !== undefined && unit !== undefined && BigInt(digits) * unit <= U64_MAX;
}

const options = (text: string): string[] => text.split(/\s+/).filter(Boolean);

function optionProblems(text: string): Problem[] {
  const all = options(text);
  const wrong = (word: Word, ...values: (string | number)[]): Problem[] => [
    { field: "mountOptions", word, values },
  ];
  if (all.length > OPTIONS_MAX) {
    return wrong("classTooManyOptions", OPTIONS_MAX);
  }
  for (const option of all) {
    const name = option.split("=")[0] ?? "";
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    if (/[,\u0000-\u001f\u007f-\u009f]/.test(option)) {
      return wrong("classBadOption", option);
    }
    if (DRIVERS_OPTIONS.includes(name)) {
      return wrong("classOwnOption", option);
    }
    if (CONTEXTS.includes(name)) {
      return wrong("classContext", option);
    }
  }
  return [];
}

/** What a container cannot give: its policies are its own. */
function policyProblems(fields: ClassFields, containers: Policies[]): Problem[] {
  if (fields.container === "") {
    return [];
  }
  const container = containers.find((one) => one.name === fields.container);
  if (!container) {
    return [{ field: "container", word: "classNoContainer", values: [] }];
  }
  const has = { copies: String(container.rf), sync: container.sync, compression: container.compression };
  return (["copies", "sync", "compression"] as const)
    .filter((field) => fields[field] !== "" && fields[field] !== has[field])
    .map((field) => ({ field, word: "classOtherPolicy", values: [container.name, has[field]] }));
}

/** All that the driver or Kubernetes would refuse; at most one for each field. */
export function problemsOf(fields: ClassFields, containers: Policies[], taken: string[]): Problem[] {
  const problems: Problem[] = [];
  const name = fields.name.trim();
  if (name.length > 253 || !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(name)) {
    problems.push({ field: "name", word: "classBadName", values: [] });
  } else if (taken.includes(name)) {
    problems.push({ field: "name", word: "classExists", values: [] });
  }
  const [iops, bandwidth] = [fields.iopsLimit.trim(), fields.bandwidthLimit.trim()];
  if (iops !== "" && !isCount(iops)) {
    problems.push({ field: "iopsLimit", word: "classBadIops", values: [] });
  }
  if (bandwidth !== "" && !isQuantity(bandwidth)) {
    problems.push({ field: "bandwidthLimit", word: "classBadBandwidth", values: [] });
  }
  return [...problems, ...policyProblems(fields, containers), ...optionProblems(fields.mountOptions)];
}

/** Words that some reader of YAML takes for something other than a text. */
const NOT_TEXTS = /^(true|false|yes|no|on|off|y|n|null|nan|inf|infinity)$/i;
/** Inside of quotes these must be written by their number. */
const UNPRINTABLE = /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g;

/** A text as YAML has it: in quotes, unless nobody can take it for anything else. */
export function scalar(text: string): string {
  if (/^[A-Za-z][-\w./]*$/.test(text) && !NOT_TEXTS.test(text)) {
    return text;
  }
  const number = (letter: string) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(UNPRINTABLE, number);
}

/** Only names that the driver knows: crates/csi/src/parameters.rs. */
function parametersOf(fields: ClassFields): [string, string][] {
  const all: [string, string][] = [
    ["storageContainer", fields.container],
    ["csi.storage.k8s.io/fstype", fields.fileSystem],
    ["replicationFactor", fields.copies],
    ["compression", fields.compression],
    ["sync", fields.sync],
    ["iopsLimit", fields.iopsLimit.trim()],
    ["bandwidthLimit", fields.bandwidthLimit.trim()],
    ["attach", fields.attach],
  ];
  return all.filter(([, value]) => value !== "");
}

/** The text for `kubectl apply`; of fields without a problem. */
export function yamlOf(fields: ClassFields): string {
  const lines = ["apiVersion: storage.k8s.io/v1", "kind: StorageClass", "metadata:"];
  lines.push(`  name: ${scalar(fields.name.trim())}`);
  if (fields.standard) {
    lines.push("  annotations:", `    ${DEFAULT_CLASS}: "true"`);
  }
  lines.push(`provisioner: ${PROVISIONER}`);
  const parameters = parametersOf(fields);
  if (parameters.length > 0) {
    lines.push("parameters:");
    lines.push(...parameters.map(([key, value]) => `  ${key}: ${scalar(value)}`));
  }
  lines.push(`reclaimPolicy: ${scalar(fields.reclaimPolicy)}`);
  lines.push(`allowVolumeExpansion: ${fields.expansion}`);
  lines.push(`volumeBindingMode: ${scalar(fields.binding)}`);
  const mounts = options(fields.mountOptions);
  if (mounts.length > 0) {
    lines.push("mountOptions:", ...mounts.map((option) => `  - ${scalar(option)}`));
  }
  return `${lines.join("\n")}\n`;
}
