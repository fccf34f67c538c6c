/** Use over time on a canvas: bars on top of each other, of times a line each. */
import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { UsageFilter } from "../../api/usage";
import { useIsDark } from "../../look/theme";
import { painted, useWidth } from "../../parts/canvas";
import { formatAmount, nameText, OTHERS, type Series, type Shown, SPANS, type Span, stacked } from "./series";

const HEIGHT = 240;

/** Of the series in their order; the last one is that of all others. */
export const COLOURS = [
  "var(--accent)",
  "var(--second)",
  "color-mix(in oklab, var(--accent) 45%, var(--paper))",
  "color-mix(in oklab, var(--second) 45%, var(--paper))",
  "var(--ink-soft)",
  "color-mix(in oklab, var(--ink-faint) 50%, var(--paper))",
] as const;

interface ChartProps {
  series: Series;
  by: UsageFilter;
  shown: Shown;
  span: Span;
  currency: string;
  label: string;
}

export function Chart({ series, by, shown, span, currency, label }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const isDark = useIsDark();
  const data = useMemo(
    () => (shown === "time" ? series.columns : stacked(series.columns)),
    [series.columns, shown],
  );

  // biome-ignore lint/correctness/useExhaustiveDependencies: the theme decides the colours read from the page
  useEffect(() => {
    if (!box.current || width === 0) return;
    const made = new uPlot(
      options(box.current, width, series, shown, span, currency),
      order(data),
      box.current,
    );
    return () => made.destroy();
  }, [width, series, data, shown, span, currency, isDark]);

  return (
    <figure className="usage-chart">
      <div ref={box} className="plot" role="img" aria-label={label} style={{ minHeight: HEIGHT }} />
      <figcaption>
        <ul role="list" className="usage-legend">
          {series.names.map((name, place) => (
            <li key={name}>
              <span style={{ background: COLOURS[place] }} aria-hidden />
              {name === OTHERS ? name : nameText(name, by)}
            </li>
          ))}
        </ul>
      </figcaption>
    </figure>
  );
}

/** The highest bar is drawn first, so that those below it stay in sight. */
function order(columns: Series["columns"]): uPlot.AlignedData {
  const [x, ...values] = columns;
  return [x, ...values.reverse()];
}

function options(
  near: HTMLElement,
  width: number,
  series: Series,
  shown: Shown,
  span: Span,
  currency: string,
): uPlot.Options {
  const axis: uPlot.Axis = {
    stroke: painted(near, "var(--ink-faint)"),
    grid: { stroke: painted(near, "var(--line)"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  const { step } = SPANS[span];
  const bars = uPlot.paths.bars?.({ size: [0.72, 40], align: 0 });
  const drawn = series.names.map((name, place): uPlot.Series => {
    const stroke = painted(near, COLOURS[place] ?? "var(--ink-faint)");
    if (shown === "time") return { label: name, stroke, width: 1.5, spanGaps: true, points: { size: 5 } };
    return {
      label: name,
      fill: stroke,
      stroke,
      width: 0,
      points: { show: false },
      ...(bars ? { paths: bars } : {}),
    };
  });
  const x = series.columns[0];
  const ends: [number, number] = [(x[0] ?? 0) - step / 2, (x.at(-1) ?? 1) + step / 2];
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: shown === "time" } },
    scales: {
      x: { time: false, range: () => ends },
      y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        space: 70,
        splits: (self) => marks(x, self.width, step),
        values: (_, splits) => splits.map((at) => momentText(at, step)),
      },
      {
        ...axis,
        size: shown === "cost" ? 76 : 52,
        values: (_, splits) =>
          splits.map((value) =>
            value === 0 && shown !== "requests" ? "0" : formatAmount(value, shown, currency),
          ),
      },
    ],
    series: [{ label: "time" }, ...drawn.reverse()],
    plugins: [readout(near, series, shown, step, currency)],
  };
}

/** As many of the times as have room below the plot. */
function marks(x: readonly number[], width: number, step: number): number[] {
  const each = Math.max(1, Math.ceil((x.length * 70) / Math.max(1, width)));
  const steps = step === 3600 ? [1, 2, 3, 6, 12] : [1, 2, 7, 14, 28];
  const every = steps.find((size) => size >= each) ?? each;
  return x.filter((_, place) => (x.length - 1 - place) % every === 0);
}

function momentText(at: number, step: number): string {
  const date = new Date(at * 1000);
  if (step === 3600) return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}

/** Values under the pointer, in the corner of the plot. */
function readout(
  near: HTMLElement,
  series: Series,
  shown: Shown,
  step: number,
  currency: string,
): uPlot.Plugin {
  const text = document.createElement("div");
  text.className = "plot-readout numbers";
  const [x, ...values] = series.columns;
  return {
    hooks: {
      init: (self) => {
        self.over.append(text);
        near.dataset.ready = "true";
      },
      setCursor: ({ cursor: { idx } }) => {
        const at = idx === null || idx === undefined ? undefined : x[idx];
        if (at === undefined || idx === null || idx === undefined) {
          text.textContent = "";
          return;
        }
        const parts = series.names.flatMap((name, place) => {
          const value = values[place]?.[idx] ?? null;
          return value === null || (value === 0 && shown !== "time")
            ? []
            : [`${name || "–"} ${formatAmount(value, shown, currency)}`];
        });
        text.textContent = [momentText(at, step), ...parts].join("   ");
      },
    },
  };
}
