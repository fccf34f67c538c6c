/** The mark: a cairn of four stones, in the accent colour. Decorative; the name stands beside it or in a label. */
export function Mark({ size = 24 }: { size?: number }) {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <ellipse cx="12" cy="19.4" rx="9.4" ry="2.9" />
      <ellipse cx="11.2" cy="13.5" rx="6.8" ry="2.5" transform="rotate(-4 11.2 13.5)" />
      <ellipse cx="12.7" cy="8.3" rx="4.9" ry="2.1" transform="rotate(5 12.7 8.3)" />
      <ellipse cx="11.9" cy="3.9" rx="2.9" ry="1.7" transform="rotate(-6 11.9 3.9)" />
    </svg>
  );
}
