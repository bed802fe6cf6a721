// What the walk tells of a Kubernetes cluster, as its driver would.

/** What a driver reports: one claim that has a volume, and one that waits for it. */
export function report(handle) {
  const common = {
    namespace: "shop",
    class: "fast",
    volume_mode: "Filesystem",
    access_modes: ["ReadWriteOnce"],
  };
  const bound = {
    ...common,
    uid: "6d3c7f0e-0000-4000-8000-000000000001",
    name: "data-db-0",
    status: "Bound",
    requested: 2 ** 30,
    capacity: 2 ** 30,
    reclaim_policy: "Delete",
    persistent_volume: "pvc-walk",
    handle,
    created_ms: Date.now() - 3 * 86_400_000,
    pods: [{ name: "db-0", phase: "Running", node: "worker-2" }],
    pods_more: 0,
    attached: ["worker-2"],
  };
  const pending = {
    ...common,
    uid: "6d3c7f0e-0000-4000-8000-000000000002",
    name: "data-db-1",
    status: "Pending",
    reason: "it waits for its first pod",
    requested: 900 * 2 ** 30,
    created_ms: Date.now() - 60_000,
  };
  const fast = {
    name: "fast",
    default: true,
    parameters: { replicationFactor: "2", "csi.storage.k8s.io/fstype": "ext4" },
    reclaim_policy: "Delete",
    binding_mode: "Immediate",
    expansion: true,
    mount_options: ["noatime"],
  };
  return {
    uid: "6d3c7f0e-0000-4000-8000-000000000000",
    version: "v1.35.2",
    driver: "0.1.0",
    classes: [fast],
    claims: [bound, pending],
    gone: [],
  };
}

/** What a driver reports of claims that came, each with a volume, and of claims that went. `volumes` by the claim's number. */
export function changed(volumes, gone) {
  const uid = (number) => `7d3c7f0e-0000-4000-8000-00000000000${number}`;
  const claim = ([number, handle]) => ({
    uid: uid(number),
    namespace: "stage",
    name: `data-${number}`,
    class: "fast",
    volume_mode: "Filesystem",
    access_modes: ["ReadWriteOnce"],
    status: "Bound",
    requested: 2 ** 30,
    capacity: 2 ** 30,
    reclaim_policy: "Delete",
    persistent_volume: `stage-${number}`,
    handle,
    created_ms: Date.now(),
    pods: [],
    pods_more: 0,
    attached: [],
  });
  return {
    uid: "7d3c7f0e-0000-4000-8000-000000000000",
    version: "v1.35.2",
    driver: "0.1.0",
    claims: volumes.map(claim),
    gone: gone.map(uid),
  };
}
