// Words of the audit log; the others are in words.ts.

export const auditEn = {
  auditEntry: "Change {0}",
  auditWhat: "What became other",
  auditField: "Field",
  auditBefore: "Before",
  auditAfter: "After",
  auditNothing: "No fields were written down of this.",
  auditSame: "as it was",
  auditKept: "not named",
  auditBeforeUnknown: "What was there before was not looked at.",
  auditDrivers: "What drivers did",
  auditLog: "Lines of this request in the logs",
};

export const auditJa: Record<keyof typeof auditEn, string> = {
  auditEntry: "変更 {0}",
  auditWhat: "変更内容",
  auditField: "項目",
  auditBefore: "変更前",
  auditAfter: "変更後",
  auditNothing: "この操作の項目は記録されていません。",
  auditSame: "変更なし",
  auditKept: "指定なし",
  auditBeforeUnknown: "変更前の値は記録されていません。",
  auditDrivers: "ドライバーの操作",
  auditLog: "このリクエストのログ",
};
