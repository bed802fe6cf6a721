import { describe, expect, it } from "vitest";
import {
  claimSearchOf,
  claimsPath,
  named,
  originOf,
  podTexts,
  readAll,
  reportedList,
  search,
  statusText,
} from "./claims";
import type { Claim, Volume } from "./types";

const claim = (namespace: string, name: string, rest: Partial<Claim> = {}): Claim => ({
  key: `${namespace}/${name}/u`,
  namespace,
  name,
  status: "Bound",
  access_modes: [],
  pods: [],
  pods_more: 0,
  attached: [],
  reported: true,
  ...rest,
});

const labels = (namespace: string, name: string, cluster?: string): Record<string, string> => ({
  "csi.storage.k8s.io/pvc/namespace": namespace,
  "csi.storage.k8s.io/pvc/name": name,
  ...(cluster === undefined ? {} : { "csi.azekura.dev/kubernetes": cluster }),
});

describe("claims", () => {
  it("are known from labels, if both parts of the name are there", () => {
    expect(originOf(labels("shop", "data", "prod"))).toEqual({
      cluster: "prod",
      namespace: "shop",
      name: "data",
    });
    expect(originOf(labels("shop", "data"))?.cluster).toBeNull();
    expect(originOf({ "csi.storage.k8s.io/pvc/name": "data" })).toBeNull();
    expect(originOf({})).toBeNull();
  });

  it("are read page after page", async () => {
    const asked: (string | null)[] = [];
    const pages = [
      { items: [claim("a", "x")], next: "a/x/u" },
      { items: [claim("b", "y")], next: "b/y/u" },
      { items: [claim("c", "z")], next: null },
    ];
    const { claims, more } = await readAll((after) => {
      asked.push(after);
      return Promise.resolve(pages[asked.length - 1] ?? { items: [] });
    });
    expect(claims.map((one) => one.name)).toEqual(["x", "y", "z"]);
    expect(more).toBe(false);
    expect(asked).toEqual([null, "a/x/u", "b/y/u"]);
  });

  it("are not read for ever", async () => {
    let page = 0;
    const endless = await readAll(() => {
      page += 1;
      return Promise.resolve({ items: [claim("a", `x${page}`)], next: `a/x${page}/u` });
    });
    expect(endless.more).toBe(true);
    expect(endless.claims.length).toBe(100);
    const stuck = await readAll(() => Promise.resolve({ items: [claim("a", "x")], next: "a/x/u" }));
    expect(stuck.claims.length).toBe(2);
  });

  it("are asked for by a place that may have any letters", () => {
    expect(claimsPath("prod", null)).toBe("/kubernetes/prod/claims");
    expect(claimsPath("a b", "n/c&d/u")).toBe("/kubernetes/a%20b/claims?after=n%2Fc%26d%2Fu");
  });

  it("are found by key, or by namespace and name", () => {
    const all = [
      claim("shop", "data"),
      claim("shop", "data", { key: "shop/data/volume-7" }),
      claim("b", "x"),
    ];
    expect(named(all, "shop/data").length).toBe(2);
    expect(named(all, "shop/data/volume-7").length).toBe(1);
    expect(named(all, "shop")).toEqual([]);
  });

  it("say what is known, and nothing where nobody reported", () => {
    const pending = claim("a", "x", { status: "Pending", reason: "no space" });
    expect(statusText(pending)).toBe("Pending: no space");
    const used = claim("a", "x", {
      pods: [
        { name: "db-0", phase: "Running", node: "worker-2" },
        { name: "db-1", phase: "Pending" },
      ],
      pods_more: 3,
    });
    expect(podTexts(used)).toEqual(["db-0 (Running, worker-2)", "db-1 (Pending)"]);
    expect(reportedList(used, podTexts(used), 3)).toBe("db-0 (Running, worker-2); db-1 (Pending); +3");
    expect(reportedList(claim("a", "x"), [])).toBe("");
    expect(reportedList(claim("a", "x", { reported: false }), [])).toBeNull();
  });
});

describe("a search", () => {
  const volume = (name: string, given: Record<string, string>) => ({ name, labels: given }) as Volume;
  const reported = [{ cluster: "prod", claims: [claim("shop", "data-db-0"), claim("web", "root")] }];

  it("finds reported claims, and those of labels, each once", () => {
    const volumes = [
      volume("pvc-1", labels("shop", "data-db-0", "prod")),
      volume("pvc-2", labels("shop", "data-db-1", "test")),
      volume("pvc-3", labels("shop", "data-db-0")),
      volume("pvc-4", labels("shop", "data-old")),
      volume("pvc-5", {}),
    ];
    expect(search("shop/data", reported, volumes, 20)).toEqual([
      { cluster: "prod", claim: "shop/data-db-0", volume: null },
      { cluster: "test", claim: "shop/data-db-1", volume: "pvc-2" },
      { cluster: null, claim: "shop/data-old", volume: "pvc-4" },
    ]);
  });

  it("ends when enough was found", () => {
    const many = Array.from({ length: 10_000 }, (_, at) => claim("shop", `data-${at}`));
    expect(search("data", [{ cluster: "prod", claims: many }], [], 20).length).toBe(20);
  });
});

it("an address that makes no sense asks for nothing", () => {
  expect(claimSearchOf({ claim: "a/b", tab: "classes" })).toEqual({ claim: "a/b", tab: "classes" });
  expect(claimSearchOf({ claim: 7, tab: "x" })).toEqual({});
});
