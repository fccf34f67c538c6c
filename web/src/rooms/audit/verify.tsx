/** Walking the chain: each entry is sealed over the one before it, so that a change shows. */
import { useMutation } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ShieldAlert, ShieldCheck } from "lucide-react";
import { type FormEvent, useState } from "react";
import { verifyAudit } from "../../api/audit";
import type { AuditVerdict } from "../../api/types";
import { counted, formatDuration, formatMoment } from "../../format";
import { CopyButton } from "../../parts/copy";
import { Problem } from "../../parts/problem";
import { TextField } from "../../parts/text-field";

export function Verify() {
  const [head, setHead] = useState("");
  const walk = useMutation({ mutationFn: () => verifyAudit(head.trim()) });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    walk.mutate();
  };
  return (
    <section className="audit-verify" aria-label="Is the log whole?">
      <form onSubmit={submit}>
        <details>
          <summary className="small soft">Compare with a head noted earlier</summary>
          <TextField
            label="The head, as it was copied from here or printed by cairn audit verify"
            placeholder="42:9f2c…"
            value={head}
            onChange={setHead}
          />
        </details>
        <button type="submit" className="button" disabled={walk.isPending}>
          <ShieldCheck size={15} aria-hidden />
          {walk.isPending ? "Verifying…" : "Verify the chain"}
        </button>
      </form>
      <div aria-live="polite">
        {walk.isError ? <Problem error={walk.error} what="Not verified" /> : null}
        {walk.data && !walk.isPending ? <Verdict verdict={walk.data} /> : null}
      </div>
    </section>
  );
}

function Verdict({ verdict }: { verdict: AuditVerdict }) {
  const { holds, count, head, seconds, problem, remedy, broken, broken_at: at, good_until: until } = verdict;
  if (holds) {
    return (
      <div className="audit-verdict" data-holds="true">
        <ShieldCheck size={18} aria-hidden />
        <div>
          <p>
            <strong>The chain holds.</strong> {counted(count, "entry", "entries")} fit, none is changed, moved
            or missing ({formatDuration(seconds)}).
          </p>
          <p className="small soft audit-head">
            Its head, to be noted elsewhere: <code>{head}</code>
            <CopyButton text={head} label="Copy the head" className="icon-button tight" />
          </p>
        </div>
      </div>
    );
  }
  return (
    <div className="audit-verdict" data-holds="false" role="alert">
      <ShieldAlert size={18} aria-hidden />
      <div>
        <p>
          <strong>The chain is broken{broken ? ` at entry ${broken.toLocaleString("en-GB")}` : ""}.</strong>{" "}
          {problem.charAt(0).toUpperCase() + problem.slice(1)}.
        </p>
        <p>
          {at ? `That entry says ${formatMoment(at)}. ` : ""}
          {until
            ? `What stands before it fits, up to ${formatMoment(until)}: ${counted(count, "entry", "entries")}.`
            : "Nothing before it fits."}
        </p>
        <p className="small">
          {remedy.charAt(0).toUpperCase() + remedy.slice(1)}.{" "}
          {at ? (
            <Link to="/audit" search={{ since: dayOf(at), until: dayOf(at) }}>
              Show that day
            </Link>
          ) : null}
        </p>
      </div>
    </div>
  );
}

/** The day by the clock of who looks: 2026-11-23. */
function dayOf(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}
