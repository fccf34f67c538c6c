/** What made a reply: enough to make it again, token for token. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { receiptQuery } from "../../api/queries";
import type { Receipt } from "../../api/types";
import { formatMoment, shortDigest } from "../../format";
import { CopyButton } from "../../parts/copy";
import { QueryState } from "../../parts/query-state";
import { SidePanel } from "./side-panel";

interface ReceiptPanelProps {
  receiptId: string;
  onClose: () => void;
}

export function ReceiptPanel({ receiptId, onClose }: ReceiptPanelProps) {
  const receipt = useQuery(receiptQuery(receiptId));
  return (
    <SidePanel title="Receipt" onClose={onClose}>
      <QueryState query={receipt} what="The receipt" lines={8} />
      {receipt.data ? <ReceiptFacts receipt={receipt.data} /> : null}
    </SidePanel>
  );
}

export function ReceiptFacts({ receipt }: { receipt: Receipt }) {
  const { seed, ...sampling } = receipt.sampling;
  const command = `cairn replay ${receipt.receipt_id}`;
  const tokensOut = receipt.outputs.reduce((sum, output) => sum + output.length, 0);
  return (
    <>
      <p className="small soft">This reply can be made again, token for token:</p>
      <div className="command">
        <code>{command}</code>
        <CopyButton text={command} label="Copy the command" />
      </div>
      <dl className="facts">
        <dt>Model</dt>
        <dd>{receipt.model}</dd>
        <dt>Artifact</dt>
        <dd>
          <Link className="mono" to="/models/$digest" params={{ digest: receipt.artifact }}>
            {shortDigest(receipt.artifact)}
          </Link>
        </dd>
        <dt>Seed</dt>
        <dd className="numbers">{String(seed ?? "none")}</dd>
        <dt>Tokens</dt>
        <dd className="numbers">
          {receipt.prompt_token_ids.length} in, {tokensOut} out
        </dd>
        <dt>Ended</dt>
        <dd>{receipt.finish_reasons.join(", ")}</dd>
        <dt>When</dt>
        <dd>{formatMoment(receipt.created_at)}</dd>
        {receipt.trace_id ? (
          <>
            <dt>Trace</dt>
            <dd>
              <Link className="mono" to="/traces/$traceId" params={{ traceId: receipt.trace_id }}>
                {shortDigest(receipt.trace_id)}
              </Link>
            </dd>
          </>
        ) : null}
        {Object.entries(receipt.runner).map(([name, value]) => (
          <RunnerFact key={name} name={name} value={value} />
        ))}
      </dl>
      <h3>Sampling</h3>
      <JsonBox value={sampling} label="Sampling parameters" />
      <h3>In full</h3>
      <JsonBox value={receipt} label="The receipt as JSON" />
    </>
  );
}

function RunnerFact({ name, value }: { name: string; value: unknown }) {
  const text =
    typeof value === "object" && value !== null
      ? Object.entries(value)
          .map(([k, v]) => `${k} ${v}`)
          .join(", ")
      : String(value);
  return (
    <>
      <dt>{name === "name" ? "Runner" : name.charAt(0).toUpperCase() + name.slice(1)}</dt>
      <dd>{text}</dd>
    </>
  );
}

/** JSON to read; lists of numbers stay on one line each. */
function JsonBox({ value, label }: { value: unknown; label: string }) {
  const text = JSON.stringify(value, null, 2).replace(
    /\[\s+(-?\d[\d\s,.-]*)\]/g,
    (_, inner: string) => `[${inner.replace(/\s+/g, " ").trim()}]`,
  );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <pre className="json" tabIndex={0} role="region" aria-label={label}>
      {text}
    </pre>
  );
}
