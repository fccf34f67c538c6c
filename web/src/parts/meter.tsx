interface MeterProps {
  label: string;
  /** What is told instead of the bare per cent. */
  text: string;
  /** Of 100. */
  share: number;
  state?: "near" | "spent" | undefined;
}

/** How much of something is taken. */
export function Meter({ label, text, share, state }: MeterProps) {
  return (
    <div
      className="meter"
      data-state={state}
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(share)}
      aria-valuetext={text}
    >
      <div style={{ width: `${share}%` }} />
    </div>
  );
}
