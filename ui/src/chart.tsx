// Lines over time. A person who does not see them hears a summary; below them stand the values, now or where the pointer is.

import "uplot/dist/uPlot.min.css";
import { Group, Text, useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { useLanguage, word } from "./i18n";
import { newest, summary } from "./series";

export interface Line {
  label: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  /** Unix seconds of the begin of each step. */
  times: number[];
  lines: Line[];
  format: (value: number) => string;
}

const HEIGHT = 150;
const DAY = 86_400;
/** Told apart by people who see few colours (after Okabe and Ito), on light and on dark. */
const COLOURS = {
  light: ["#0072b2", "#c14a00", "#00735a", "#9c4f80"],
  dark: ["#56b4e9", "#f0a030", "#2fc59a", "#dd92c0"],
};
const INK = { light: "#565d64", dark: "#a6adb4" };
const RULE = { light: "#e3e6e9", dark: "#3a3f45" };

function clock(language: string, range: number): Intl.DateTimeFormat {
  const locale = language === "ja" ? "ja-JP" : "en-GB";
  return range > 2 * DAY
    ? new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" })
    : new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
}

function options(
  scheme: "light" | "dark",
  lines: string[],
  format: (value: number) => string,
  language: string,
  point: (at: number | null) => void,
): uPlot.Options {
  const axis = {
    stroke: INK[scheme],
    grid: { stroke: RULE[scheme], width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  const hours = (plot: uPlot, splits: number[]) => {
    const { min = 0, max = 0 } = plot.scales.x ?? {};
    const show = clock(language, (max ?? 0) - (min ?? 0));
    return splits.map((seconds) => show.format(seconds * 1000));
  };
  return {
    width: 300,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [
      { ...axis, size: 28, values: hours },
      { ...axis, size: 74, values: (_, splits) => splits.map(format) },
    ],
    series: [
      {},
      ...lines.map((label, at) => ({
        label,
        stroke: COLOURS[scheme][at % COLOURS[scheme].length],
        width: 1.5,
        points: { show: false },
      })),
    ],
    hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
  };
}

export function Chart({ title, times, lines, format }: Props) {
  const language = useLanguage();
  const scheme = useComputedColorScheme("light");
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const data = useMemo<uPlot.AlignedData>(() => [times, ...lines.map((line) => line.values)], [times, lines]);
  const labels = lines.map((line) => line.label).join("\n");
  const shown = useRef(data);
  shown.current = data;
  useEffect(() => {
    const element = host.current;
    if (!element) {
      return;
    }
    const made = new uPlot(
      options(scheme, labels.split("\n"), format, language, setPointed),
      shown.current,
      element,
    );
    plot.current = made;
    const resize = () => made.setSize({ width: Math.max(120, element.clientWidth), height: HEIGHT });
    const observer = new ResizeObserver(resize);
    observer.observe(element);
    resize();
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [scheme, labels, format, language]);
  useEffect(() => plot.current?.setData(data), [data]);
  const moment = pointed === null ? null : times[pointed];
  const at = (line: Line) => {
    const value = moment == null ? newest(line.values) : (line.values[pointed ?? 0] ?? null);
    return value === null ? "–" : format(value);
  };
  const locale = language === "ja" ? "ja-JP" : "en-GB";
  const when = moment == null ? word("now") : new Date(moment * 1000).toLocaleString(locale);
  return (
    <figure style={{ margin: 0, minWidth: 0 }} aria-label={title}>
      <Text component="figcaption" size="sm" fw={600}>
        {title}
      </Text>
      <div
        role="img"
        aria-label={`${title}: ${lines.map((line) => summary(line, format, word("nothingKnown"))).join("; ")}`}
      >
        <div ref={host} aria-hidden style={{ height: HEIGHT }} />
      </div>
      <Group gap="md" wrap="wrap">
        {lines.map((line, index) => (
          <Group key={line.label} gap={6} wrap="nowrap">
            <span
              aria-hidden
              style={{
                width: 12,
                height: 3,
                background: COLOURS[scheme][index % COLOURS[scheme].length],
              }}
            />
            <Text size="xs">
              {line.label} {at(line)}
            </Text>
          </Group>
        ))}
        <Text size="xs" c="dimmed">
          {when}
        </Text>
      </Group>
    </figure>
  );
}
