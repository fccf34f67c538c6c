/** What was used, by whom, what it cost and how long it took; and how much may be used. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Download } from "lucide-react";
import { useMemo } from "react";
import { sessionQuery } from "../../api/queries";
import type { UsageLine, UsageReport, UsageSums } from "../../api/types";
import { USAGE_FILTERS, type UsageFilter, type UsageOnly, usagePath, usageQuery } from "../../api/usage";
import { counted, formatCount } from "../../format";
import { Chips } from "../../parts/chips";
import { Choice } from "../../parts/filter";
import { QueryState } from "../../parts/query-state";
import { Room } from "../../parts/room";
import { Table } from "../../parts/table";
import { Chart } from "./chart";
import { Limits } from "./limits";
import {
  formatAmount,
  formatMoney,
  formatTime,
  nameText,
  SHOWN,
  type Shown,
  SPANS,
  type Span,
  sinceOf,
  toSeries,
} from "./series";
import "./usage.css";

const BY: Record<UsageFilter, string> = {
  model: "Model",
  user: "Person",
  key: "Key",
  group: "Group",
  endpoint: "Endpoint",
  outcome: "Outcome",
};
const MINUTE_MS = 60_000;

export function UsageRoom() {
  const search = useSearch({ from: "/house/usage" });
  const navigate = useNavigate({ from: "/usage" });
  const isAdmin = useQuery(sessionQuery).data?.roles.includes("admin") ?? false;
  const span = oneOf<Span>(SPANS, search.span, "week");
  const shown = oneOf<Shown>(SHOWN, search.show, "requests");
  const by = oneOf<UsageFilter>(BY, search.by, "model");
  // The span moves on with the minute, not with every drawing.
  const since = sinceOf(span, Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS);
  const only = useMemo(() => {
    const found: UsageOnly = {};
    for (const name of USAGE_FILTERS) if (search[name] !== undefined) found[name] = search[name];
    return found;
  }, [search]);
  const change = (values: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...values }), replace: true });

  const time = SPANS[span].step === 3600 ? "hour" : "day";
  const overTime = useQuery(usageQuery({ by: `${time},${by}`, since, only }));
  const sums = useQuery(usageQuery({ by, since, only }));
  const isFiltered = Object.keys(only).length > 0;
  const numRequests = sums.data?.total.requests ?? 0;

  return (
    <Room
      title="Usage"
      tools={
        <>
          <Choice
            label="Time"
            value={span}
            onChange={(value) => change({ span: value })}
            options={Object.entries(SPANS).map(([value, { name }]) => [value, name] as const)}
          />
          <Choice
            label="Split by"
            value={by}
            onChange={(value) => change({ by: value })}
            options={Object.entries(BY).map(([value, name]) => [value, `By ${name.toLowerCase()}`] as const)}
          />
          <a className="button" href={usagePath({ by: `${time},${by}`, since, only }, "csv")} download>
            <Download size={15} aria-hidden />
            CSV
          </a>
        </>
      }
    >
      <Chips
        chips={USAGE_FILTERS.filter((name) => only[name] !== undefined).map(
          (name) => [name, only[name]] as const,
        )}
        titles={BY}
        onRemove={(name) => change({ [name]: undefined })}
      />
      <QueryState query={sums} what="The usage" lines={10} count={numRequests} isFiltered={isFiltered}>
        <p>Nothing was asked in this time.</p>
        <p>
          Each request to a model leaves a line here: from the chat, or from a program with a key of{" "}
          <code>cairn key create</code>.
        </p>
      </QueryState>
      {sums.data && numRequests > 0 ? (
        <>
          <Totals report={sums.data} shown={shown} onShow={(value) => change({ show: value })} />
          {overTime.data ? (
            <Over report={overTime.data} by={by} shown={shown} span={span} since={since} />
          ) : (
            <QueryState query={overTime} what="The chart" lines={6} />
          )}
          <Lines report={sums.data} by={by} onChoose={(name) => change({ [by]: name })} />
        </>
      ) : null}
      <Limits isAdmin={isAdmin} />
    </Room>
  );
}

function oneOf<Name extends string>(
  known: Record<Name, unknown>,
  given: string | undefined,
  usual: Name,
): Name {
  return given !== undefined && Object.hasOwn(known, given) ? (given as Name) : usual;
}

interface TotalsProps {
  report: UsageReport;
  shown: Shown;
  onShow: (shown: Shown) => void;
}

/** The sums; the one that is chosen is drawn. */
function Totals({ report: { total, currency }, shown, onShow }: TotalsProps) {
  const tokens = (total.prompt_tokens ?? 0) + (total.completion_tokens ?? 0);
  const tiles: Record<Shown, [value: string, note: string]> = {
    requests: [formatCount(total.requests ?? 0), troubles(total)],
    tokens: [formatCount(tokens), tokenNote(total)],
    cost: [formatMoney(total.cost ?? 0, currency), savedNote(total, currency)],
    time: [formatTime(total.seconds_p50), timeNote(total)],
  };
  return (
    <fieldset className="usage-totals">
      <legend className="hidden-visually">What is drawn</legend>
      {(Object.keys(SHOWN) as Shown[]).map((name) => (
        <label key={name}>
          <input
            className="hidden-visually"
            type="radio"
            name="usage-shown"
            checked={shown === name}
            onChange={() => onShow(name)}
          />
          <span className="label">{SHOWN[name]}</span>
          <strong className="numbers">{tiles[name][0]}</strong>
          <span className="small soft">{tiles[name][1]}</span>
        </label>
      ))}
    </fieldset>
  );
}

function troubles({ refused = 0, failed = 0, aborted = 0 }: UsageSums): string {
  const parts = [
    refused > 0 ? `${formatCount(refused)} refused` : "",
    failed > 0 ? `${formatCount(failed)} failed` : "",
    aborted > 0 ? `${formatCount(aborted)} cut off` : "",
  ];
  return parts.filter(Boolean).join(", ") || "all answered";
}

function tokenNote({
  prompt_tokens: read = 0,
  cached_tokens: cached = 0,
  completion_tokens: out = 0,
}: UsageSums) {
  const share = read > 0 && cached > 0 ? ` (${Math.round((100 * cached) / read)} % cached)` : "";
  return `${formatCount(read)} read${share}, ${formatCount(out)} written`;
}

/** What answers that were given again would have taken. */
function savedNote({ saved_tokens: tokens = 0, saved_cost: cost = 0 }: UsageSums, currency: string): string {
  if (tokens === 0) return "";
  const amount = cost > 0 ? `, ${formatMoney(cost, currency)}` : "";
  return `${formatCount(tokens)} tokens${amount} saved by repeats`;
}

function timeNote({ seconds_p95: slow, first_token_seconds: first }: UsageSums): string {
  const begun = first === null || first === undefined ? "" : `, first words after ${formatTime(first)}`;
  return `half of them; 95 % within ${formatTime(slow)}${begun}`;
}

interface OverProps {
  report: UsageReport;
  by: UsageFilter;
  shown: Shown;
  span: Span;
  since: number;
}

function Over({ report, by, shown, span, since }: OverProps) {
  const series = useMemo(
    () => toSeries(report.lines, by, shown, span, since),
    [report.lines, by, shown, span, since],
  );
  return (
    <Chart
      series={series}
      by={by}
      shown={shown}
      span={span}
      currency={report.currency}
      label={`${SHOWN[shown]} over ${SPANS[span].name} by ${BY[by].toLowerCase()}`}
    />
  );
}

interface LinesProps {
  report: UsageReport;
  by: UsageFilter;
  onChoose: (name: string) => void;
}

function Lines({ report, by, onChoose }: LinesProps) {
  const lines = [...report.lines].sort((a, b) => (b.requests ?? 0) - (a.requests ?? 0));
  return (
    <Table
      columns={[
        BY[by],
        { head: "Requests", isRight: true },
        { head: "Read", isRight: true, isWide: true },
        { head: "Written", isRight: true, isWide: true },
        { head: "Cost", isRight: true },
        { head: "Half within", isRight: true, isWide: true },
        { head: "95 % within", isRight: true, isWide: true },
      ]}
      caption={counted(lines.length, BY[by].toLowerCase())}
    >
      {lines.map((line) => (
        <Line key={line[by]} line={line} by={by} currency={report.currency} onChoose={onChoose} />
      ))}
    </Table>
  );
}

interface LineProps {
  line: UsageLine;
  by: UsageFilter;
  currency: string;
  onChoose: (name: string) => void;
}

function Line({ line, by, currency, onChoose }: LineProps) {
  const name = line[by] ?? "";
  return (
    <tr>
      <td>
        {name === "" ? (
          <span className="soft">{nameText(name, by)}</span>
        ) : (
          <button
            type="button"
            className="row-link usage-name"
            title="Only this"
            onClick={() => onChoose(name)}
          >
            {name}
          </button>
        )}
      </td>
      <td className="right numbers">{formatCount(line.requests ?? 0)}</td>
      <td className="right numbers wide-only">{formatCount(line.prompt_tokens ?? 0)}</td>
      <td className="right numbers wide-only">{formatCount(line.completion_tokens ?? 0)}</td>
      <td className="right numbers">{formatAmount(line.cost ?? 0, "cost", currency)}</td>
      <td className="right numbers soft wide-only">{formatTime(line.seconds_p50)}</td>
      <td className="right numbers soft wide-only">{formatTime(line.seconds_p95)}</td>
    </tr>
  );
}
