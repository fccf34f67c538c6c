import { useEffect, useRef, useState } from "react";
import type { Reply } from "./replies";
import { nextSpeech } from "./speech";

interface Said {
  id: number;
  text: string;
}

/** A live region that hears the reply sentence by sentence. */
export function Announcer({ reply }: { reply: Reply | undefined }) {
  const [said, setSaid] = useState<readonly Said[]>([]);
  const state = useRef({ id: 0, spoken: 0, text: "", isOn: false });

  useEffect(() => {
    const now = state.current;
    const say = (text: string) => {
      if (text.trim() === "") return;
      now.id += 1;
      const entry = { id: now.id, text: text.trim() };
      setSaid((old) => [...old.slice(-20), entry]);
    };
    if (reply && reply.phase !== "failed") {
      if (!now.isOn || !reply.text.startsWith(now.text)) {
        Object.assign(now, { spoken: 0, isOn: true });
        say("The reply is being written.");
      }
      now.text = reply.text;
      const speech = nextSpeech(reply.text, now.spoken, false);
      now.spoken += speech.length;
      say(speech);
    } else if (now.isOn) {
      say(nextSpeech(now.text, now.spoken, true));
      if (!reply) say("The reply is complete.");
      Object.assign(now, { text: "", spoken: 0, isOn: false });
    }
  }, [reply]);

  return (
    <div className="hidden-visually" role="log" aria-live="polite" aria-label="Reply">
      {said.map(({ id, text }) => (
        <p key={id}>{text}</p>
      ))}
    </div>
  );
}
