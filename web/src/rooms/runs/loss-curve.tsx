import { useMemo, useState } from "react";
import { formatCount } from "../../format";
import { Problem } from "../../parts/problem";
import { recall, remember } from "../../storage";
import { type LossFacts, latest, toColumns, type XAxis } from "./curve";
import { Plot } from "./plot";
import { useMetrics } from "./use-metrics";

interface LossCurveProps {
  runId: string;
  title: string;
  isLive: boolean;
}

/** The loss of one run; nothing at all when it wrote no metrics. */
export function LossCurve({ runId, title, isLive }: LossCurveProps) {
  const metrics = useMetrics(runId, isLive);
  const [xAxis, setXAxis] = useState<XAxis>(
    recall<string>("plot.x", "tokens") === "step" ? "step" : "tokens",
  );
  const [isLog, setLog] = useState(recall("plot.log", false));
  const lines = metrics.data?.lines;
  const columns = useMemo(() => toColumns(lines ?? [], xAxis), [lines, xAxis]);

  if (metrics.isError) return <Problem error={metrics.error} onRetry={() => void metrics.refetch()} />;
  if (!lines || lines.length === 0) return null;
  const facts = latest(lines);
  return (
    <figure className="loss">
      <figcaption>
        <h3>
          {title}
          {isLive ? <span className="tag accent">live</span> : null}
        </h3>
        <Facts facts={facts} />
        <div className="loss-tools">
          <fieldset className="segments">
            <legend className="hidden-visually">Horizontal axis</legend>
            {(["tokens", "step"] as const).map((option) => (
              <label key={option}>
                <input
                  className="hidden-visually"
                  type="radio"
                  name={`x-${runId}`}
                  checked={xAxis === option}
                  onChange={() => {
                    setXAxis(option);
                    remember("plot.x", option);
                  }}
                />
                {option === "step" ? "Steps" : "Tokens"}
              </label>
            ))}
          </fieldset>
          <button
            type="button"
            className="button"
            aria-pressed={isLog}
            onClick={() => {
              setLog(!isLog);
              remember("plot.log", !isLog);
            }}
          >
            Log
          </button>
        </div>
      </figcaption>
      <Plot columns={columns} xAxis={xAxis} isLog={isLog} label={describe(facts)} />
    </figure>
  );
}

function Facts({ facts }: { facts: LossFacts }) {
  const parts: [name: string, value: string, key?: string][] = [
    ["step", formatCount(facts.step)],
    ["tokens", formatCount(facts.tokens)],
  ];
  if (facts.trainLoss !== null) parts.push(["train", facts.trainLoss.toFixed(3), "train"]);
  if (facts.validationLoss !== null)
    parts.push(["validation", facts.validationLoss.toFixed(3), "validation"]);
  if (facts.bitsPerByte !== null) parts.push(["bits/byte", facts.bitsPerByte.toFixed(3)]);
  if (facts.tokensPerSecond !== null) parts.push(["tokens/s", formatCount(facts.tokensPerSecond)]);
  return (
    <ul className="loss-facts numbers" role="list">
      {parts.map(([name, value, key]) => (
        <li key={name} data-series={key}>
          <span>{name}</span> {value}
        </li>
      ))}
    </ul>
  );
}

function describe(facts: LossFacts): string {
  const held = facts.validationLoss === null ? "" : `, validation loss ${facts.validationLoss.toFixed(3)}`;
  return `Loss curve: training loss ${facts.trainLoss?.toFixed(3) ?? "unknown"}${held} at step ${facts.step}`;
}
