/** A reply token by token: how likely each was, and what else might have come. */
import { type KeyboardEvent, type PointerEvent, useId, useState } from "react";
import type { TokenLogprob } from "../../api/types";

const SHOWN = 2000;

export function Tokens({ tokens }: { tokens: readonly TokenLogprob[] }) {
  const id = useId();
  const [at, setAt] = useState<number | null>(null);
  const shown = tokens.slice(0, SHOWN);
  const active = at === null ? undefined : shown[at];
  const onKeyDown = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    setAt((now) => Math.min(Math.max((now ?? -1) + step, 0), shown.length - 1));
  };
  const onPointerOver = (event: PointerEvent) => {
    const place = (event.target as HTMLElement).dataset.place;
    if (place !== undefined) setAt(Number(place));
  };
  return (
    <div className="play-tokens">
      <div
        role="listbox"
        tabIndex={0}
        aria-label="Tokens"
        aria-activedescendant={active ? `${id}-${at}` : undefined}
        onKeyDown={onKeyDown}
        onPointerOver={onPointerOver}
        onFocus={() => setAt((now) => now ?? 0)}
      >
        {shown.map((token, place) => (
          <span
            // biome-ignore lint/suspicious/noArrayIndexKey: tokens only come at the end; a place is an identity
            key={place}
            id={`${id}-${place}`}
            role="option"
            tabIndex={-1}
            aria-selected={place === at}
            aria-label={`${shownToken(token.token)}, ${percent(token.logprob)}`}
            data-place={place}
            data-band={band(token.logprob)}
          >
            {token.token}
          </span>
        ))}
      </div>
      {tokens.length > SHOWN ? (
        <p className="small faint">The first {SHOWN.toLocaleString("en-GB")} tokens.</p>
      ) : null}
      <div className="play-token" aria-hidden>
        {active ? <TokenFacts token={active} /> : <p className="small faint">Point at a token.</p>}
      </div>
    </div>
  );
}

/** A token and the likeliest at its place, the one that came marked. */
function TokenFacts({ token }: { token: TokenLogprob }) {
  const isAmong = token.top_logprobs.some((other) => other.token === token.token);
  const all = isAmong ? token.top_logprobs : [token, ...token.top_logprobs];
  return (
    <dl>
      {all.map((each, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: two of them may read alike; a place is an identity
        <div key={place} data-chosen={each.token === token.token || undefined}>
          <dt className="mono clip">{shownToken(each.token)}</dt>
          <dd>
            <span className="play-bar" style={{ width: `${100 * Math.exp(each.logprob)}%` }} />
            <span className="numbers">{percent(each.logprob)}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** Likely, fair, doubtful, unlikely. */
export function band(logprob: number): number {
  const likelihood = Math.exp(logprob);
  return likelihood >= 0.8 ? 0 : likelihood >= 0.4 ? 1 : likelihood >= 0.1 ? 2 : 3;
}

export function percent(logprob: number): string {
  const share = 100 * Math.exp(logprob);
  if (share >= 99.95) return "100%";
  return share < 0.1 ? "<0.1%" : `${share >= 10 ? share.toFixed(1) : share.toFixed(2)}%`;
}

/** Spaces and line ends so that they are seen. */
export function shownToken(token: string): string {
  return token.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "␣") || "(empty)";
}
