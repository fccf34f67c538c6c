/** Names side by side, in a row of a table or a line of facts. */
export function Tags({ names }: { names: readonly string[] }) {
  return (
    <span className="labels">
      {names.map((name) => (
        <span key={name} className="tag">
          {name}
        </span>
      ))}
    </span>
  );
}
