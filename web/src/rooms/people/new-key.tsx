/** A new key: what it is for, what it may, how long; and its secret, shown this once. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { X } from "lucide-react";
import { useState } from "react";
import { sendJson } from "../../api/client";
import { peopleQuery, permissionsQuery, useMay } from "../../api/identity";
import { modelsQuery, sessionQuery } from "../../api/queries";
import type { MadeKey } from "../../api/types";
import { CopyButton } from "../../parts/copy";
import { Choice } from "../../parts/filter";
import { FormModal } from "../../parts/form-modal";
import { TextField } from "../../parts/text-field";

const DAY_SECONDS = 86_400;
const LASTING = [
  ["", "until it is revoked"],
  ["30", "30 days"],
  ["90", "90 days"],
  ["365", "a year"],
] as const;

export function MadeKeyNote({ made, onClose }: { made: MadeKey; onClose: () => void }) {
  return (
    <section className="made-key" aria-label="The new key">
      <div className="made-key-head">
        <p>
          <strong>{made.name || made.key_id}</strong> is made. Copy it now: it is shown this once.
        </p>
        <button type="button" className="icon-button tight" aria-label="Put it away" onClick={onClose}>
          <X size={15} aria-hidden />
        </button>
      </div>
      <div className="made-key-secret">
        <code>{made.key}</code>
        <CopyButton text={made.key} label="Copy the key" className="button">
          Copy
        </CopyButton>
      </div>
    </section>
  );
}

interface NewKeyFormProps {
  /** Whether it may be made for somebody else. */
  isAll: boolean;
  onMade: (made: MadeKey) => void;
  onClose: () => void;
}

export function NewKeyForm({ isAll, onMade, onClose }: NewKeyFormProps) {
  const me = useQuery(sessionQuery).data?.user_id ?? "";
  const people = useQuery({ ...peopleQuery, enabled: useMay()("manage_people") && isAll }).data ?? [];
  const [name, setName] = useState("");
  const [owner, setOwner] = useState(me);
  const [days, setDays] = useState("");
  const [scopes, setScopes] = useState<readonly string[] | null>(null);
  const [models, setModels] = useState<readonly string[] | null>(null);
  const client = useQueryClient();
  const make = useMutation({
    mutationFn: () => {
      const body = {
        name,
        scopes,
        models,
        expires_at: days === "" ? null : Date.now() / 1000 + Number(days) * DAY_SECONDS,
      };
      return isAll
        ? sendJson<MadeKey>("POST", "/api/issued-keys", { ...body, user_id: owner })
        : sendJson<MadeKey>("POST", "/api/keys", body);
    },
    onSuccess: (made) => {
      onMade(made);
      void client.invalidateQueries({ queryKey: ["keys"] });
      onClose();
    },
  });
  const owners = people.length > 0 ? people.map((each) => each.user_id) : [me];
  return (
    <FormModal title="New key" does="Make it" order={make} failed="Not made" onClose={onClose}>
      <TextField
        label="What it is for"
        placeholder="Such as nightly report"
        maxLength={200}
        value={name}
        onChange={setName}
      />
      <div className="key-choices">
        {isAll ? (
          <div>
            <span className="label">Whose</span>
            <Choice
              label="Whose key"
              value={owner}
              onChange={setOwner}
              options={owners.map((each) => [each, each] as const)}
            />
          </div>
        ) : null}
        <div>
          <span className="label">Good for</span>
          <Choice label="Good for" value={days} onChange={setDays} options={LASTING} />
        </div>
      </div>
      <Scopes owner={owner} isAll={isAll} chosen={scopes} onChange={setScopes} />
      <ModelChoice chosen={models} onChange={setModels} />
    </FormModal>
  );
}

interface ListChoiceProps {
  chosen: readonly string[] | null;
  onChange: (chosen: readonly string[] | null) => void;
}

function Scopes({ owner, isAll, chosen, onChange }: ListChoiceProps & { owner: string; isAll: boolean }) {
  const table = useQuery(permissionsQuery).data ?? [];
  const session = useQuery(sessionQuery).data;
  const people = useQuery({ ...peopleQuery, enabled: isAll }).data ?? [];
  const roles =
    owner === session?.user_id ? session.roles : (people.find((each) => each.user_id === owner)?.roles ?? []);
  const held = table.filter((each) => each.roles.some((role) => roles.includes(role)));
  return (
    <fieldset className="choices">
      <legend className="label">What it may do</legend>
      <label>
        <input type="radio" name="scopes" checked={chosen === null} onChange={() => onChange(null)} />
        All that its owner may
      </label>
      <label>
        <input type="radio" name="scopes" checked={chosen !== null} onChange={() => onChange(["chat"])} />
        Only some of it
      </label>
      {chosen === null ? null : (
        <Boxes
          options={held.map(
            ({ name, meaning }) => [name, meaning.charAt(0).toUpperCase() + meaning.slice(1)] as const,
          )}
          chosen={chosen}
          onChange={onChange}
        />
      )}
    </fieldset>
  );
}

function ModelChoice({ chosen, onChange }: ListChoiceProps) {
  const models = useQuery(modelsQuery).data ?? [];
  if (models.length < 2) return null;
  return (
    <fieldset className="choices">
      <legend className="label">Which models it is for</legend>
      <label>
        <input type="radio" name="models" checked={chosen === null} onChange={() => onChange(null)} />
        All, those to come too
      </label>
      <label>
        <input type="radio" name="models" checked={chosen !== null} onChange={() => onChange([])} />
        Only some
      </label>
      {chosen === null ? null : (
        <Boxes options={models.map(({ id }) => [id, id] as const)} chosen={chosen} onChange={onChange} />
      )}
    </fieldset>
  );
}

interface BoxesProps {
  options: readonly (readonly [value: string, text: string])[];
  chosen: readonly string[];
  onChange: (chosen: readonly string[]) => void;
}

/** Some of a list. */
export function Boxes({ options, chosen, onChange }: BoxesProps) {
  return (
    <div className="boxes">
      {options.map(([value, text]) => (
        <label key={value}>
          <input
            type="checkbox"
            checked={chosen.includes(value)}
            onChange={(event) =>
              onChange(event.target.checked ? [...chosen, value] : chosen.filter((each) => each !== value))
            }
          />
          <span>{text}</span>
        </label>
      ))}
    </div>
  );
}
