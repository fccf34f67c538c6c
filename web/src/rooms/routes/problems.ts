/** The mistakes of a routes' file, as a refusal names them: `…: line 6: what; line 9: what`. */

export interface Problem {
  line: number;
  message: string;
}

export function problemsIn(message: string): Problem[] {
  const found = message.matchAll(/line (\d+): (.*?)(?=; line \d+: |$)/gs);
  return [...found].map(([, line, text]) => ({ line: Number(line), message: text ?? "" }));
}
