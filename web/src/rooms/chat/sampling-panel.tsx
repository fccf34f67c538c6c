/** How replies are sampled. An empty field leaves the choice to the server. */
import { useId, useState } from "react";
import { NumberInput } from "../../parts/number-input";
import { DEFAULT_SAMPLING, NUMBER_FIELDS, type Sampling } from "./sampling";
import { SidePanel } from "./side-panel";

interface SamplingPanelProps {
  sampling: Sampling;
  onChange: (sampling: Sampling) => void;
  onClose: () => void;
}

export function SamplingPanel({ sampling, onChange, onClose }: SamplingPanelProps) {
  const systemId = useId();
  const stopId = useId();
  // The fields keep their own text; a reset makes them anew.
  const [round, setRound] = useState(0);
  return (
    <SidePanel title="Sampling" onClose={onClose}>
      <div className="sampling" key={round}>
        <div>
          <label className="label" htmlFor={systemId}>
            System prompt
          </label>
          <textarea
            id={systemId}
            className="field"
            rows={4}
            value={sampling.system}
            placeholder="None"
            onChange={(event) => onChange({ ...sampling, system: event.target.value })}
          />
        </div>
        {NUMBER_FIELDS.map((field) => (
          <NumberInput
            key={field.name}
            field={field}
            value={sampling[field.name]}
            onChange={(value) => onChange({ ...sampling, [field.name]: value })}
          />
        ))}
        <div>
          <label className="label" htmlFor={stopId}>
            Stop strings, one a line
          </label>
          <textarea
            id={stopId}
            className="field mono"
            rows={2}
            defaultValue={sampling.stop.join("\n")}
            placeholder="None"
            onChange={(event) =>
              onChange({ ...sampling, stop: event.target.value.split("\n").filter((line) => line !== "") })
            }
          />
        </div>
        <button
          type="button"
          className="button"
          onClick={() => {
            const { model, knowledge } = sampling;
            onChange({ ...DEFAULT_SAMPLING, model, knowledge });
            setRound(round + 1);
          }}
        >
          Back to the server’s own
        </button>
        <p className="small faint">Kept for this conversation; a new one starts with what was used last.</p>
      </div>
    </SidePanel>
  );
}
