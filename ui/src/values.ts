// What the API says in its own words, in Japanese: states, kinds, scopes. In English it is shown as it is.
// values.test.ts holds this to the documents and to the sources of the API.

/** Of volumes, snapshots and stores. */
const state = {
  ready: "準備完了",
  pending: "準備中",
  deleting: "削除中",
  stopped: "停止",
  incomplete: "不完全",
  quarantine: "隔離中",
  suspect: "要注意",
  protected: "新規書き込み停止",
  full: "満杯",
  failed: "故障",
  unreachable: "応答なし",
};

const standing = { present: "参加中", away: "不在", draining: "退避中", lost: "喪失" };

/** Of a placement group. */
const placement = { ok: "正常", filling: "書き込み中", degraded: "縮退", unavailable: "利用不可" };

const severity = { critical: "重大", warning: "警告", info: "情報" };

/** What volumes may still write. */
const space = { ok: "十分", warning: "残りわずか", protected: "新規書き込み停止" };

const error = {
  "bad-request": "リクエストが不正です",
  "not-found": "見つかりません",
  exists: "すでに存在します",
  "in-use": "使用中です",
  refused: "今の状態では実行できません",
  changed: "ほかで変更されました",
  "no-space": "容量が足りません",
  unavailable: "一時的に利用できません",
  failed: "失敗しました",
  unauthenticated: "ログインしていません",
  forbidden: "権限がありません",
  throttled: "試行回数が多すぎます",
};

/** Of what somebody wanted to change. */
const outcome = {
  done: "完了",
  "bad-request": "不正な要求",
  "not-found": "対象なし",
  exists: "既存",
  "in-use": "使用中",
  refused: "拒否",
  changed: "変更の競合",
  "no-space": "容量不足",
  unavailable: "一時利用不可",
  failed: "失敗",
  unauthenticated: "認証なし",
  forbidden: "権限なし",
  throttled: "回数超過",
};

const scope = {
  viewer: "閲覧 (viewer)",
  operator: "運用 (operator)",
  admin: "管理 (admin)",
  csi: "CSI ドライバー (csi)",
  client: "クライアント (client)",
};

const compression = { lz4: "LZ4", off: "なし" };

/** Of claims, as Kubernetes and the driver say. */
const claim = { Bound: "バインド済み", Pending: "保留中", Lost: "喪失", Terminating: "終了処理中" };

const target = { webhook: "Webhook", mail: "メール", alertmanager: "Alertmanager" };

const security = { starttls: "STARTTLS", tls: "TLS", none: "なし" };

const level = { error: "エラー", warn: "警告", info: "情報", debug: "デバッグ", trace: "トレース" };

/** What fails together. */
const domain = { store: "ストア", node: "ノード", member: "メンバー", rack: "ラック", zone: "ゾーン" };

const alert = {
  "node-lost": "ノード停止",
  "candidate-waiting": "承認待ちノード",
  "store-failed": "ストア故障",
  "store-lost": "ストア喪失",
  "store-silent": "ストア応答なし",
  "store-filling": "ストア使用率",
  "copies-missing": "コピー不足",
  "data-unavailable": "データ利用不可",
  "log-copies-missing": "ログのコピー不足",
  "repair-waiting": "修復待ち",
  "repair-stalled": "修復停滞",
  "capacity-short": "復元用容量不足",
  space: "容量不足",
  "catalog-member": "カタログのメンバー",
  "certificate-expiring": "証明書の期限",
  "volume-stopped": "ボリューム停止",
  "quota-nearly-used": "上限間近",
  "delivery-failed": "通知の失敗",
  "volume-quarantined": "ボリューム隔離",
  rot: "データ破損",
  "rot-repaired": "データ破損（修復済み）",
  "journal-rot": "ジャーナル破損",
};

const event = {
  "node-lost": "ノード停止",
  "node-returned": "ノード復帰",
  "node-restarted": "ノード再起動",
  "node-joined": "ノード参加",
  "node-removed": "ノード取り外し",
  candidate: "参加待ち",
  approved: "参加承認",
  "store-lost": "ストア喪失",
  "store-returned": "ストア復帰",
  "store-protected": "ストア保護",
  "store-released": "ストア保護解除",
  "space-warning": "容量警告",
  "space-protected": "容量保護",
  "space-ok": "容量回復",
  "repair-begun": "修復開始",
  "repair-ended": "修復終了",
  verdict: "判定の変化",
  takeover: "引き継ぎ",
  "volume-stopped": "ボリューム停止",
  "volume-quarantined": "ボリューム隔離",
  "volume-released": "ボリューム隔離解除",
  "rot-repaired": "データ破損（修復済み）",
  rot: "データ破損",
  "journal-rot": "ジャーナル破損",
  drain: "退避開始",
  undrain: "退避終了",
  maintenance: "メンテナンス開始",
  "maintenance-ended": "メンテナンス終了",
  "member-removed": "メンバー取り外し",
  "authority-rotated": "認証局の更新",
  "authority-retired": "旧認証局の廃止",
  "etcd-add": "etcd メンバー追加",
  "etcd-promote": "etcd メンバー昇格",
  "etcd-remove": "etcd メンバー削除",
  "etcd-readdress": "etcd アドレス変更",
  "catalog-full": "カタログ満杯",
  "catalog-room": "カタログ空き回復",
  "level-risen": "クラスターレベル上昇",
  "events-lost": "イベント欠落",
};

export const VALUES = {
  state,
  standing,
  placement,
  severity,
  space,
  error,
  outcome,
  scope,
  compression,
  claim,
  target,
  security,
  level,
  domain,
  alert,
  event,
};

export type ValueOf = keyof typeof VALUES;
