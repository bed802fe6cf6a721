// Words of what deletions free, of what happened to a volume, and of its clients; the others are in words.ts.

export const volumeEn = {
  freesReading: "Looking up what becomes free…",
  freesSum: "The stores get back {0}, as last counted.",
  freesUnknown: "What the stores get back is not known yet.",
  freesUnknownOf: "Of {0} of {1} it is not known yet.",
  freesShared: "Data that only these have in common becomes free as well.",
  freesTooMany: "What becomes free is not summed for more than {0}.",
  clientHeard: "Sessions: {0}; last heard {1} ago",
  clientUnheard: "Sessions: {0}; not heard by the owner for {1}",
  changedMeanwhile:
    "Somebody else has changed it since this form was opened. Nothing was saved: close the form and open it again.",
  dataProtection: "Data protection",
  replicated: "Replicated, {0} copies",
  replicatedOnce: "One copy: a lost disk loses data",
  olderNotShown: "These are the newest {0}; older ones are not shown.",
  quarantine: "Quarantine",
  quarantineUntil: "until {0}",
  quarantined: "Volumes in quarantine",
  quarantinedHint: "Nobody can use them until then, or until somebody releases them.",
  releaseVolume: "Release",
  releaseVolumeHint:
    "Nodes that opened or served this volume ended while they did. Release it when the cause is gone, such as after an update or the repair of a disk: any node may open it at once then. If the cause is still there, it ends nodes again.",
};

export const volumeJa: Record<keyof typeof volumeEn, string> = {
  freesReading: "空く容量を調べています…",
  freesSum: "ストアに {0} が戻ります（前回の集計時点）。",
  freesUnknown: "ストアに戻る容量はまだわかりません。",
  freesUnknownOf: "{1} 個のうち {0} 個はまだわかりません。",
  freesShared: "これらだけが共有しているデータも空きます。",
  freesTooMany: "{0} 個を超えると、空く容量は合計しません。",
  clientHeard: "セッション: {0}、最後の応答は {1} 前",
  clientUnheard: "セッション: {0}、オーナーは {1} の間応答を受けていません",
  changedMeanwhile:
    "このフォームを開いた後に、ほかの誰かが変更しました。何も保存されていません。フォームを閉じて開き直してください。",
  dataProtection: "データ保護",
  replicated: "レプリケーション、{0} コピー",
  replicatedOnce: "1 コピー（ディスクを失うとデータを失います）",
  olderNotShown: "新しい {0} 件です。それより古いものは表示していません。",
  quarantine: "隔離",
  quarantineUntil: "{0} まで",
  quarantined: "隔離中のボリューム",
  quarantinedHint: "この時刻になるか、誰かが解除するまで使えません。",
  releaseVolume: "隔離を解除",
  releaseVolumeHint:
    "このボリュームを開いた、または提供していたノードが、その最中に終了しました。更新やディスクの修理などで原因を取り除いた後に解除してください。解除するとすぐに、どのノードでも開けるようになります。原因が残っていると、ノードがふたたび終了します。",
};
