/** The loss curve on a canvas, in the colours of the page. */
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatCount } from "../../format";
import { useIsDark } from "../../look/theme";
import { painted, useWidth } from "../../parts/canvas";
import type { Columns, XAxis } from "./curve";

interface PlotProps {
  columns: Columns;
  xAxis: XAxis;
  isLog: boolean;
  label: string;
}

const HEIGHT = 280;

export function Plot({ columns, xAxis, isLog, label }: PlotProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = useRef(columns);
  const width = useWidth(box);
  const isDark = useIsDark();
  data.current = columns;

  // biome-ignore lint/correctness/useExhaustiveDependencies: the theme decides the colours read from the page
  useEffect(() => {
    if (!box.current || width === 0) return;
    const made = new uPlot(optionsFor(box.current, width, xAxis, isLog), data.current, box.current);
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
  }, [width, xAxis, isLog, isDark]);

  useEffect(() => {
    plot.current?.setData(columns);
  }, [columns]);

  return <div ref={box} className="plot" role="img" aria-label={label} style={{ minHeight: HEIGHT }} />;
}

function optionsFor(near: HTMLElement, width: number, xAxis: XAxis, isLog: boolean): uPlot.Options {
  const font = "12px system-ui, sans-serif";
  const axis: uPlot.Axis = {
    stroke: painted(near, "var(--ink-faint)"),
    grid: { stroke: painted(near, "var(--line)"), width: 1 },
    ticks: { show: false },
    font,
  };
  const train = painted(near, "var(--accent)");
  const validation = painted(near, "var(--second)");
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: { distr: isLog ? 3 : 1 } },
    axes: [
      { ...axis, values: (_, splits) => splits.map((value) => formatCount(value)), space: 60 },
      {
        ...axis,
        size: 48,
        values: (_, splits) => splits.map((value) => (value === null ? "" : String(+value.toFixed(3)))),
      },
    ],
    series: [
      { label: xAxis },
      { label: "train", stroke: train, width: 1.5, points: { size: 4 }, spanGaps: true },
      {
        label: "validation",
        stroke: validation,
        width: 1.5,
        spanGaps: true,
        points: { show: true, size: 6, fill: validation },
      },
    ],
    plugins: [readout(near)],
  };
}

/** Values under the pointer, in the corner of the plot. */
function readout(near: HTMLElement): uPlot.Plugin {
  const text = document.createElement("div");
  text.className = "plot-readout numbers";
  return {
    hooks: {
      init: (self) => {
        self.over.append(text);
        near.dataset.ready = "true";
      },
      setCursor: (self) => {
        const { idx } = self.cursor;
        const [x, train, validation] = self.data;
        if (idx === null || idx === undefined || x[idx] === undefined) {
          text.textContent = "";
          return;
        }
        const parts = [`${self.series[0]?.label} ${formatCount(x[idx])}`];
        const [loss, held] = [train?.[idx], validation?.[idx]];
        if (loss !== null && loss !== undefined) parts.push(`train ${loss.toFixed(3)}`);
        if (held !== null && held !== undefined) parts.push(`validation ${held.toFixed(3)}`);
        text.textContent = parts.join("   ");
      },
    },
  };
}
