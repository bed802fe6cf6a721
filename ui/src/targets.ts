// What a target of alerts is made of, from what somebody typed.

export type TargetKind = "webhook" | "mail" | "alertmanager";

/** As it is typed: what does not belong to the kind does not count. */
export interface TargetFields {
  kind: TargetKind;
  name: string;
  minimum: string;
  url: string;
  secret: string;
  server: string;
  security: string;
  user: string;
  password: string;
  from: string;
  /** Addresses with commas or blanks between them. */
  to: string;
  ca: string;
}

const OF_KIND: Record<TargetKind, (keyof TargetFields)[]> = {
  webhook: ["url", "secret", "ca"],
  mail: ["server", "security", "user", "password", "from", "ca"],
  alertmanager: ["url", "user", "password", "ca"],
};

/** What the API is told; fields that are empty are left out. */
export function specOf(fields: TargetFields): Record<string, unknown> & { name: string } {
  const spec: Record<string, unknown> & { name: string } = {
    name: fields.name.trim(),
    kind: fields.kind,
    minimum: fields.minimum,
  };
  for (const name of OF_KIND[fields.kind]) {
    // Blanks around a secret may belong to it.
    const value = name === "secret" || name === "password" ? fields[name] : fields[name].trim();
    if (value !== "") {
      spec[name] = value;
    }
  }
  if (fields.kind === "mail") {
    spec.to = fields.to.split(/[\s,]+/).filter((address) => address !== "");
  }
  return spec;
}
