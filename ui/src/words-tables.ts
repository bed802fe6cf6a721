// Words of tables and of what is done with several rows; the others are in i18n.ts.

export const tablesEn = {
  inSnapshots: "In snapshots",
  quotaUsed: "Quota used",
  spaceState: "Room",
};

export const tablesJa: Record<keyof typeof tablesEn, string> = {
  inSnapshots: "スナップショット内",
  quotaUsed: "上限に対する割合",
  spaceState: "空きの状態",
};
