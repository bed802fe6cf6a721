// What the API answers, as far as the pages show it. The whole of it: GET /api/v1/openapi.json.

export type Scope = "admin" | "operator" | "viewer" | "csi" | "client";
export type Role = "admin" | "operator" | "viewer";

export interface Session {
  who: string | null;
  user: string | null;
  scope: Scope | null;
  expires_ms: number | null;
}

export interface Node {
  id: number;
  name: string;
  address: string;
  nbd: string | null;
  api: string | null;
  /** Version of the release that it ran when it started last; empty before releases said so. */
  release: string;
  /** The highest level that release knows. */
  level: number;
  alive: boolean;
  draining: boolean;
  maintenance_until_ms: number;
  candidate: boolean;
}

export interface Cluster {
  name: string;
  id: string;
  version: string;
  level: number;
  nodes: Node[];
}

export interface Store {
  id: number;
  node: number;
  state: string;
  reason: string | null;
  capacity: number;
  used: number;
  /** Left free of clients' data. */
  kept_back?: number;
  journal_capacity: number;
  journal_used: number;
  extents: number;
  standing: string;
  /** By what was wanted of the store alone; its node may have one of its own. */
  maintenance_until_ms?: number;
  groups: number;
  filling: number;
  leaving: number;
  /** Labels of the failure domains around its node, narrowest first. */
  domains?: string[];
}

/** A value of a node's configuration as it is in force. */
export interface Setting {
  key: string;
  node: string;
  value: number;
  unit: string;
}

export interface Disk {
  node: string;
  store: number;
  /** As its node sees it; empty when that does not answer. */
  path: string;
  size: number | null;
  /** Of the whole store, as are the bytes used, the state, the standing and the groups. */
  capacity: number;
  used: number;
  state: string;
  reason?: string | null;
  standing: string;
  groups: number;
  /** Mean microseconds since the store was opened, all disks of it together. */
  read_us?: number | null;
  write_us?: number | null;
  flush_us?: number | null;
  serial?: string | null;
  model?: string | null;
  /** Whether the light that shows where it is burns; nothing: it has none that can be switched. */
  light?: boolean | null;
}

export interface ClusterEvent {
  id: number;
  at_ms: number;
  severity: string;
  kind: string;
  entity: string;
  message: string;
  remedy: string | null;
  node: string;
  count: number;
}

export interface AlertMark {
  /** Nobody: its cause is gone. */
  by: string | null;
  at_ms: number;
  note: string | null;
}

export interface Alert {
  id: number;
  severity: string;
  kind: string;
  entity: string;
  cause: string;
  impact: string;
  remedy: string;
  state: "open" | "acknowledged" | "resolved";
  raised_ms: number;
  seen_ms: number;
  by_hand: boolean;
  acknowledged: AlertMark | null;
  resolved: AlertMark | null;
}

export interface AlertCounts {
  critical: number;
  warning: number;
  info: number;
}

export interface Alerts {
  open: AlertCounts;
  alerts: Alert[];
  next: number | null;
}

export interface AlertTarget {
  name: string;
  kind: string;
  minimum: string;
  address: string;
  to: string[];
  delivered_ms: number | null;
  waiting: number;
  missed: number;
  failures: number;
  failing_ms: number | null;
  error: string | null;
}

export interface PlacementStore {
  store: number;
  role: string;
  standing: string;
  leaving: boolean;
  bytes: number | null;
}

export interface PlacementGroup {
  id: number;
  generation: number;
  rf: number;
  state: string;
  missing: number;
  bytes: number | null;
  members: PlacementStore[];
  former: PlacementStore[];
}

export interface Usage {
  mapped: number;
  shared: number;
  exclusive: number;
  frees: number;
  /** Bytes of one copy as stored, where nothing is shared. */
  stored?: number | null;
  age_seconds: number;
}

export interface NamedUsage {
  id: number;
  name: string;
  volume_id: number | null;
  container: string;
  usage: Usage;
}

export interface SpaceReport {
  lineages: number;
  walked: number;
  age_seconds: number;
  physical: {
    capacity: number;
    used: number;
    data: number;
    unsettled: number;
    other: number;
    kept_back: number;
    journal_capacity: number;
    journal_used: number;
  };
  mapped: number;
  distinct: number;
  stored: number;
  sharing_hundredths: number;
  compression_hundredths: number;
  containers: { name: string; mapped: number; snapshots: number; exclusive: number; frees: number }[];
  volumes: NamedUsage[];
  snapshots: NamedUsage[];
}

export interface Container {
  id: number;
  name: string;
  rf: number;
  min_copies: number;
  strict: boolean;
  sync: string;
  compression: string;
  quota: number | null;
  volumes: number;
  provisioned: number;
  /** What its volumes may still write: `ok`, `warning` or `protected`. */
  space?: string;
  version?: number | null;
}

export interface Volume {
  id: number;
  name: string;
  container: string;
  size: number;
  mapped: number;
  created_ms: number;
  owner: number | null;
  epoch: number;
  state: string;
  reason: string | null;
  /** Missing of a volume that is in no quarantine. */
  quarantine_until_ms?: number | null;
  rf: number;
  log: { store: number }[];
  segments: number;
  undrained: number | null;
  attachment: { generation: number; clients: string[]; read_only: boolean; shared: boolean };
  origin: {
    volume: string | null;
    snapshot: string | null;
    volume_id: number;
    snapshot_id: number;
  } | null;
  labels: Record<string, string>;
  description: string | null;
  iops_limit: number | null;
  bandwidth_limit: number | null;
  /** Of it together with its snapshots and clones; missing in lists. */
  placement?: { store: number; bytes: number }[];
  /** What its owner hears of the clients it is attached to; missing in lists, and while the owner does not answer. */
  clients?: { name: string; sessions: number; silent_ms: number; heard: boolean }[];
  /** Missing in lists, and while it was not counted. */
  usage?: Usage | null;
  version?: number | null;
}

export interface Snapshot {
  id: number;
  name: string;
  volume: string | null;
  volume_id: number;
  size: number;
  mapped: number | null;
  created_ms: number;
  state: string;
  labels: Record<string, string>;
  group: string | null;
  /** Only in lists of one volume's, and once it was counted. */
  usage?: Usage | null;
}

export interface GroupSnapshot {
  id: string;
  name: string;
  created_ms: number;
  snapshots: Snapshot[];
  ready: boolean;
}

/** What may be lost of one part of the cluster. */
export interface Part {
  /** `data`, `log`, `capacity` or `catalog`. */
  component: string;
  rf?: number | null;
  /** `store`, `node` or `member`. */
  domain: string;
  tolerates: number;
  state: string;
  reason?: string | null;
  remedy?: string | null;
}

export interface Resiliency {
  verdict: string;
  reasons: string[];
  data: {
    rf: number;
    domain: string;
    groups: number;
    degraded: number;
    unavailable: number;
    tolerates: number;
  }[];
  repair: {
    filling: number;
    filled: number;
    waiting: number;
    running_seconds: number;
    eta_seconds: number | null;
  };
  capacity: { total: number; used: number; resilient: number; fullest_percent: number };
  components?: Part[];
}

export interface User {
  name: string;
  role: Role;
  created_ms: number;
  sessions: number;
}

/** A session that counts. Its id lets nobody in. */
export interface OpenSession {
  id: string;
  user: string;
  created_ms: number;
  expires_ms: number;
  /** The one that asks. */
  own: boolean;
}

export interface Token {
  name: string;
  scope: Scope;
  /** Whose personal token it is; absent: it stands for itself. */
  user?: string;
  containers: string[];
  kubernetes: string[];
  /** Somebody has said that it is for all; absent: nobody has. */
  all_containers?: boolean;
  created_ms: number;
  token?: string;
}

export interface StorageClass {
  name: string;
  default: boolean;
  parameters: Record<string, string>;
  reclaim_policy: string;
  binding_mode: string;
  expansion: boolean;
  mount_options: string[];
}

/** A Kubernetes cluster, as its driver reports it. Without a report: what the labels of volumes tell. */
export interface Kubernetes {
  name: string;
  uid?: string | null;
  version?: string | null;
  driver?: string | null;
  reported_ms?: number | null;
  silent: boolean;
  claims: number;
  bound: number;
  pending: number;
  volumes: number;
  size: number;
  used: number;
  classes: StorageClass[];
}

export interface Claim {
  key: string;
  uid?: string | null;
  namespace: string;
  name: string;
  class?: string | null;
  status: string;
  reason?: string | null;
  requested?: number | null;
  capacity?: number | null;
  access_modes: string[];
  volume_mode?: string | null;
  reclaim_policy?: string | null;
  persistent_volume?: string | null;
  created_ms?: number | null;
  pods: { name: string; phase: string; node?: string | null }[];
  pods_more: number;
  attached: string[];
  /** False: known from labels alone. */
  reported: boolean;
  volume?: {
    id: number;
    name: string;
    size: number;
    used?: number | null;
    state: string;
    clients: string[];
  } | null;
}

export interface AuditEntry {
  id: number;
  at_ms: number;
  who: string;
  from: string;
  operation: string;
  subject: string;
  /** Id of the request, as in the nodes' logs. */
  request?: string;
  outcome: string;
  reason?: string;
  /** What was there, where that was looked at. */
  before?: Record<string, unknown> | null;
  /** What was asked for, without secrets. */
  after?: Record<string, unknown> | null;
}

export interface Authority {
  signer: string;
  fingerprint: string;
  believed: number;
  nodes: { node: string; issuer: string; current: boolean; until_ms: number }[];
}

export interface Change {
  kind: string;
  id: number;
  gone: boolean;
}

export interface Changes {
  revision: number;
  reset: boolean;
  changes: Change[];
}

export interface Metrics {
  entity: string;
  from_ms: number;
  to_ms: number;
  step: number;
  through_ms: number;
  series: { metric: string; unit: string; values: (number | null)[] }[];
  silent: string[];
}

export interface Rates {
  iops: number;
  read_iops: number;
  write_iops: number;
  bandwidth: number;
  read_bandwidth: number;
  write_bandwidth: number;
  latency_us: number | null;
  latency_p99_us: number | null;
}

export interface Busiest {
  at_ms: number;
  nodes: {
    id: number;
    name: string;
    cpu_percent: number | null;
    resident: number | null;
    volumes: number;
    rates: Rates;
  }[];
  volumes: { id: number; name: string; container: string; owner: number; rates: Rates }[];
  silent: string[];
}

/** A program that is no node, and told a node of its line. */
export interface LogOrigin {
  component: string;
  host: string;
  by: string;
}

export interface LogLine {
  node: string;
  number: number;
  at_ms: number;
  level: string;
  target: string;
  message: string;
  fields: Record<string, string>;
  /** Nothing: it is the node's own. */
  origin?: LogOrigin;
}

export interface Logs {
  /** Oldest first. */
  lines: LogLine[];
  more: boolean;
  /** Since when every line is there. */
  since_ms: number;
  silent: string[];
}

export interface Task {
  id: number;
  kind: string;
  entity: string;
  /** The same by id. */
  subject: string;
  status: string;
  done: number;
  /** 0: not known. */
  total: number;
  unit: string;
  eta_ms: number | null;
  message: string;
  parent: number | null;
  queued_ms: number;
  started_ms: number | null;
  updated_ms: number;
  ended_ms: number | null;
  /** Empty: nobody, the cluster does it by itself. */
  who: string;
  request: string;
  node: string;
  cancellable: boolean;
  cancelled_by: string | null;
}
