// Words of Home alone; the others are in words.ts.

export const homeEn = {
  fills: "What fills it",
  fillsMore: "Space by volume",
  fillsContainers: "Containers, by what their deletion frees",
  walkedOf: "{0} of {1} volumes with their snapshots and clones have been walked so far.",
  reduction: "Data reduction",
  reductionBoth: "Both together",
  reductionNone: "Not known yet: no volume with data has been walked.",
  parts: "Losses by part",
  part: "Part",
  partData: "Data",
  partLog: "Logs of volumes",
  partCapacity: "Room to make copies again",
  partCatalog: "Catalog",
  lostAtATime: "Lost at a time",
  eventsRecent: "Recent events",
  eventsMore: "All events",
};

export const homeJa: Record<keyof typeof homeEn, string> = {
  fills: "容量の使われ方",
  fillsMore: "ボリューム別の内訳",
  fillsContainers: "コンテナ（削除で空く容量順）",
  walkedOf: "{1} 件中 {0} 件のボリューム（スナップショットとクローンを含む）を集計済みです。",
  reduction: "データ削減",
  reductionBoth: "両方の合計",
  reductionNone: "まだ分かりません。データのあるボリュームが集計されていません。",
  parts: "部分ごとに失える数",
  part: "部分",
  partData: "データ",
  partLog: "ボリュームのログ",
  partCapacity: "コピーを作り直す空き",
  partCatalog: "カタログ",
  lostAtATime: "失う単位",
  eventsRecent: "最近のイベント",
  eventsMore: "すべてのイベント",
};
