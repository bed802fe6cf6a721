import { describe, expect, it } from "vitest";
import { CLASS_AT_FIRST, type ClassFields, problemsOf, scalar, yamlOf } from "./storage-class";

const gold = { name: "gold", rf: 3, sync: "flush", compression: "off" };
const fields = (changed: Partial<ClassFields>): ClassFields => ({
  ...CLASS_AT_FIRST,
  name: "fast",
  ...changed,
});
const wrong = (changed: Partial<ClassFields>) =>
  problemsOf(fields(changed), [gold], ["azekura"]).map(({ field, word }) => `${field} ${word}`);

describe("the text of a class", () => {
  it("has what was chosen and nothing that was left open", () => {
    expect(yamlOf(fields({}))).toBe(
      [
        "apiVersion: storage.k8s.io/v1",
        "kind: StorageClass",
        "metadata:",
        "  name: fast",
        "provisioner: csi.azekura.dev",
        "parameters:",
        "  csi.storage.k8s.io/fstype: ext4",
        "reclaimPolicy: Delete",
        "allowVolumeExpansion: true",
        "volumeBindingMode: Immediate",
        "",
      ].join("\n"),
    );
  });

  it("has every parameter that the driver knows", () => {
    const all = fields({
      name: " db.fast ",
      standard: true,
      container: "gold tier",
      fileSystem: "xfs",
      copies: "3",
      compression: "off",
      sync: "always",
      iopsLimit: "5000",
      bandwidthLimit: "100Mi",
      attach: "local",
      reclaimPolicy: "Retain",
      expansion: false,
      binding: "WaitForFirstConsumer",
      mountOptions: " noatime  commit=60\ndiscard",
    });
    expect(yamlOf(all)).toBe(
      [
        "apiVersion: storage.k8s.io/v1",
        "kind: StorageClass",
        "metadata:",
        "  name: db.fast",
        "  annotations:",
        '    storageclass.kubernetes.io/is-default-class: "true"',
        "provisioner: csi.azekura.dev",
        "parameters:",
        '  storageContainer: "gold tier"',
        "  csi.storage.k8s.io/fstype: xfs",
        '  replicationFactor: "3"',
        '  compression: "off"',
        "  sync: always",
        '  iopsLimit: "5000"',
        '  bandwidthLimit: "100Mi"',
        "  attach: local",
        "reclaimPolicy: Retain",
        "allowVolumeExpansion: false",
        "volumeBindingMode: WaitForFirstConsumer",
        "mountOptions:",
        "  - noatime",
        '  - "commit=60"',
        "  - discard",
        "",
      ].join("\n"),
    );
  });

  it("leaves the parameters out when there are none", () => {
    expect(yamlOf(fields({ fileSystem: "" }))).not.toContain("parameters");
  });
});

describe("a text in YAML", () => {
  it("is plain when nobody can take it for anything else", () => {
    for (const plain of ["lz4", "ext4", "csi.azekura.dev", "a/b", "gold-1", "on-call", "nothing"]) {
      expect(scalar(plain)).toBe(plain);
    }
  });

  it("is quoted when it would be a number, a truth, nothing, or a part of the language", () => {
    const odd = [
      "3",
      "1e3",
      "0x1f",
      "1_000",
      "-1",
      ".5",
      ".inf",
      "off",
      "Off",
      "NO",
      "y",
      "true",
      "null",
      "~",
      "",
    ];
    const marks = [
      "a: b",
      "a #b",
      "- a",
      "*a",
      "&a",
      "!a",
      "{a}",
      "[a]",
      "a, b",
      "%a",
      "@a",
      "`a`",
      "|",
      ">",
      "? a",
    ];
    for (const text of [...odd, ...marks, "two words", " a", "a ", "容器", "2026-11-27", "12:30"]) {
      expect(scalar(text)).toBe(JSON.stringify(text));
    }
  });

  it("keeps quotes, backslashes and what cannot be printed", () => {
    expect(scalar('say "hi" \\ there')).toBe('"say \\"hi\\" \\\\ there"');
    expect(scalar("a\nb\tc")).toBe('"a\\nb\\tc"');
    expect(scalar("a\u0085\u2028\u007f\ufeff")).toBe('"a\\u0085\\u2028\\u007f\\ufeff"');
  });
});

describe("what the driver would refuse is said before", () => {
  it("is nothing for a good class", () => {
    expect(wrong({})).toEqual([]);
    expect(wrong({ container: "gold", copies: "3", sync: "flush", compression: "off" })).toEqual([]);
    expect(wrong({ iopsLimit: "0", bandwidthLimit: " 16Ti ", mountOptions: "noatime nodiscard" })).toEqual(
      [],
    );
    expect(wrong({ iopsLimit: "18446744073709551615", bandwidthLimit: "18446744073709551615" })).toEqual([]);
  });

  it("is a name that Kubernetes has not, or has already", () => {
    for (const name of ["", "Fast", "a_b", "-a", "a-", "a..b", "a.-b", "x".repeat(254), "a b"]) {
      expect(wrong({ name })).toEqual(["name classBadName"]);
    }
    expect(wrong({ name: "azekura" })).toEqual(["name classExists"]);
  });

  it("is a limit that is no number", () => {
    for (const iopsLimit of ["-1", "1.5", "1k", "x", "18446744073709551616", "+5"]) {
      expect(wrong({ iopsLimit })).toEqual(["iopsLimit classBadIops"]);
    }
    for (const bandwidthLimit of [
      "10MB",
      "100mi",
      "1.5Gi",
      "Mi",
      "-1",
      "1 Gi",
      "99999999Ti",
      "16777216Ti",
      "1Pi",
    ]) {
      expect(wrong({ bandwidthLimit })).toEqual(["bandwidthLimit classBadBandwidth"]);
    }
  });

  it("is a policy that the named container does not have", () => {
    expect(wrong({ container: "gold", copies: "2", sync: "always", compression: "lz4" })).toEqual([
      "copies classOtherPolicy",
      "sync classOtherPolicy",
      "compression classOtherPolicy",
    ]);
    expect(wrong({ container: "silver" })).toEqual(["container classNoContainer"]);
  });

  it("is a mount option that is not one, or not the class's to choose", () => {
    expect(wrong({ mountOptions: "noatime,discard" })).toEqual(["mountOptions classBadOption"]);
    expect(wrong({ mountOptions: "noatime\u0007" })).toEqual(["mountOptions classBadOption"]);
    expect(wrong({ mountOptions: "loop" })).toEqual(["mountOptions classOwnOption"]);
    expect(wrong({ mountOptions: "offset=4096" })).toEqual(["mountOptions classOwnOption"]);
    expect(wrong({ mountOptions: "context=system_u:object_r:x" })).toEqual(["mountOptions classContext"]);
    expect(wrong({ mountOptions: "a ".repeat(65) })).toEqual(["mountOptions classTooManyOptions"]);
  });
});
