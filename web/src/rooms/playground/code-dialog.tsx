/** The request as code to take along. */
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { CodeBlock } from "../../parts/code";
import { Modal } from "../../parts/modal";
import { recall, remember } from "../../storage";
import { exported, LANGUAGES, type Language } from "./export";
import { Segments } from "./fields";
import type { Made } from "./request";

interface CodeDialogProps {
  /** Of each side. */
  made: readonly Made[];
  onClose: () => void;
}

export function CodeDialog({ made, onClose }: CodeDialogProps) {
  const [language, setLanguage] = useState<Language>(() => recall("playground.language", "curl") as Language);
  const [side, setSide] = useState("0");
  const { body } = made[Number(side)] ?? made[0] ?? { body: {} };
  const { code, reasons } = exported(language, location.origin, body);
  return (
    <Modal title="The request as code" onClose={onClose}>
      <div className="play-code">
        <div className="play-code-choices">
          <Segments
            label="Language"
            name="language"
            value={language}
            onChange={(value) => {
              setLanguage(value);
              remember("playground.language", value);
            }}
            options={LANGUAGES}
          />
          {made.length > 1 ? (
            <Segments
              label="Side"
              name="code-side"
              value={side}
              onChange={setSide}
              options={[
                ["0", "A"],
                ["1", "B"],
              ]}
            />
          ) : null}
        </div>
        {reasons.length > 0 ? (
          <div className="soft">
            <p>This request cannot be said so:</p>
            <ul>
              {[...new Set(reasons)].map((reason) => (
                <li key={reason}>{reason}</li>
              ))}
            </ul>
          </div>
        ) : (
          <CodeBlock code={code} language={language === "curl" ? "bash" : "python"} />
        )}
        <p className="small faint">
          It takes the key from <code>CAIRN_API_KEY</code>; <Link to="/keys">make one under Keys</Link>.
        </p>
      </div>
    </Modal>
  );
}
