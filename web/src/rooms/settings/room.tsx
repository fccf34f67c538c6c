/** Settings: the look, one's account, what is in force, and what this is. */
import { Monitor, Moon, Sun } from "lucide-react";
import { useMay } from "../../api/identity";
import { setTheme, type Theme, useTheme } from "../../look/theme";
import { Room } from "../../parts/room";
import { OwnConversations } from "../chat/own-conversations";
import { OwnPassword, OwnSessions } from "../people/own";
import { Account } from "./account";
import { InForce } from "./in-force";

const THEMES = [
  { theme: "system", name: "System", Icon: Monitor },
  { theme: "light", name: "Light", Icon: Sun },
  { theme: "dark", name: "Dark", Icon: Moon },
] as const satisfies readonly { theme: Theme; name: string; Icon: typeof Sun }[];

const KEYS = [
  ["Ctrl K", "go to a room, conversation or model"],
  ["Enter", "send"],
  ["Shift Enter", "new line"],
  ["Esc", "stop the reply, or close what is open"],
  ["/", "in the box: a saved prompt"],
  ["Up", "in an empty box: edit your last message"],
] as const;

export function SettingsRoom() {
  const theme = useTheme();
  const may = useMay();

  return (
    <Room title="Settings">
      <section className="section" aria-labelledby="look">
        <h2 id="look">Look</h2>
        <fieldset className="segments">
          <legend className="hidden-visually">Theme</legend>
          {THEMES.map(({ theme: option, name, Icon }) => (
            <label key={option}>
              <input
                className="hidden-visually"
                type="radio"
                name="theme"
                checked={theme === option}
                onChange={() => setTheme(option)}
              />
              <Icon size={15} aria-hidden />
              {name}
            </label>
          ))}
        </fieldset>
      </section>
      <Account />
      <OwnPassword />
      <OwnSessions />
      {may("conversations") ? <OwnConversations /> : null}
      <section className="section" aria-labelledby="shortcuts">
        <h2 id="shortcuts">Shortcuts</h2>
        <dl className="facts">
          {KEYS.map(([key, does]) => (
            <div key={key} style={{ display: "contents" }}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{does}</dd>
            </div>
          ))}
        </dl>
      </section>
      {may("manage_server") ? <InForce /> : null}
      <section className="section" aria-labelledby="about">
        <h2 id="about">About</h2>
        <p className="soft">
          Cairn is the whole generative-AI stack in one package: from raw text to a model that is trained,
          served, and answers for itself. Conversations, models and receipts stay in the data folder of this
          server. The API is described in <a href="/api/openapi.json">its OpenAPI document</a>.
        </p>
      </section>
    </Room>
  );
}
