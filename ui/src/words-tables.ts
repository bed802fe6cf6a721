// Words of tables and of what is done with several rows; the others are in i18n.ts.

export const tablesEn = {
  inSnapshots: "In snapshots",
  quotaUsed: "Quota used",
  spaceState: "Room",
  unitParts: "parts",
  unitGroups: "groups",
  unitRecords: "records",
  unitExtents: "extents",
  unitNodes: "nodes",
  unitMoves: "moves",
  unitSteps: "steps",
  taskPartOf: "Part of",
  taskProgress: "Progress",
  taskRest: "Left",
  tasksCancel: "Cancel {0} tasks?",
  leaving: "Being left",
  journalFill: "Fill of the journal",
};

export const tablesJa: Record<keyof typeof tablesEn, string> = {
  inSnapshots: "スナップショット内",
  quotaUsed: "上限に対する割合",
  spaceState: "空きの状態",
  unitParts: "個",
  unitGroups: "グループ",
  unitRecords: "レコード",
  unitExtents: "エクステント",
  unitNodes: "ノード",
  unitMoves: "回の移動",
  unitSteps: "段階",
  taskPartOf: "親タスク",
  taskProgress: "進捗",
  taskRest: "残り時間",
  tasksCancel: "{0} 件のタスクを取り消しますか？",
  leaving: "離脱中",
  journalFill: "ジャーナルの使用率",
};
