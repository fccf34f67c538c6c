/** One trace: where the time went, span by span, and what it leads to. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { receiptQuery } from "../../api/queries";
import { traceQuery } from "../../api/traces";
import type { TraceDetail, TraceLine } from "../../api/types";
import { formatMoment } from "../../format";
import { CopyButton } from "../../parts/copy";
import { QueryState } from "../../parts/query-state";
import { Back } from "../../parts/room";
import { useTitle } from "../../parts/title";
import { ReceiptFacts } from "../chat/receipt-panel";
import { OutcomeMark } from "./outcome";
import { formatSpan } from "./rows";
import "./traces.css";
import { Waterfall } from "./waterfall";

export function TraceRoom() {
  const { traceId } = useParams({ from: "/house/traces/$traceId" });
  const trace = useQuery(traceQuery(traceId));
  useTitle(trace.data?.requests[0] ? `${trace.data.requests[0].name}, trace` : "Trace");
  return (
    <div className="room">
      <Back to="/traces">Traces</Back>
      <QueryState query={trace} what="The trace" lines={10} />
      {trace.data ? <Detail trace={trace.data} /> : null}
    </div>
  );
}

function Detail({ trace }: { trace: TraceDetail }) {
  const [first] = trace.requests;
  if (first === undefined) return null;
  return (
    <>
      <div className="room-head">
        <h1 className="trace-title">{first.name}</h1>
        <OutcomeMark outcome={first.outcome} error={first.error} />
      </div>
      <dl className="facts">
        <dt>Trace</dt>
        <dd className="digest">
          <span className="trace-id">{trace.trace_id}</span>
          <CopyButton text={trace.trace_id} label="Copy the trace's id" />
        </dd>
        <dt>When</dt>
        <dd>{formatMoment(trace.at)}</dd>
        <dt>Took</dt>
        <dd className="numbers">{formatSpan(trace.seconds)}</dd>
        {first.model ? (
          <>
            <dt>Model</dt>
            <dd>{first.model}</dd>
          </>
        ) : null}
        <dt>Person</dt>
        <dd>{first.user_id || "nobody"}</dd>
        {first.error ? (
          <>
            <dt>Error</dt>
            <dd className="mono">
              {first.error} ({first.status})
            </dd>
          </>
        ) : null}
        {trace.conversation_id ? (
          <>
            <dt>Conversation</dt>
            <dd>
              <Link to="/chat/$conversationId" params={{ conversationId: trace.conversation_id }}>
                Open it
              </Link>
            </dd>
          </>
        ) : null}
      </dl>
      <section className="section" aria-labelledby="spans">
        <h2 id="spans">Where the time went</h2>
        <Waterfall spans={trace.spans} seconds={trace.seconds} />
      </section>
      {trace.requests.map((request) =>
        request.receipt_id ? <ReceiptOf key={request.root_id} request={request} /> : null,
      )}
    </>
  );
}

/** The receipt of an answer, once it is asked for. */
function ReceiptOf({ request }: { request: TraceLine }) {
  const [isOpen, setOpen] = useState(false);
  const receipt = useQuery({ ...receiptQuery(request.receipt_id), enabled: isOpen });
  return (
    <section className="section trace-receipt">
      <h2>Receipt</h2>
      <button
        type="button"
        className="button"
        aria-expanded={isOpen}
        onClick={() => setOpen((wasOpen) => !wasOpen)}
      >
        <span className="mono">{request.receipt_id}</span>
      </button>
      {isOpen ? <QueryState query={receipt} what="The receipt" lines={8} /> : null}
      {isOpen && receipt.data ? <ReceiptFacts receipt={receipt.data} /> : null}
    </section>
  );
}
