/** What the replay shows: which traffic, under which two policies. */
import { useState } from "preact/hooks";
import type { Recording, ReplayOptions } from "../../shared/film.ts";
import { formatBytes } from "../../shared/format.ts";

export type SideChoice = { kind: "policy"; name: string } | { kind: "recording"; name: string };

export interface ReplayChoice {
  traffic: { kind: "workload" | "recording"; name: string };
  left: SideChoice;
  right: SideChoice;
  programs: number;
  ratePerS: number;
  seed: number;
  engines: number;
  preset: string;
}

/** The demo as it was recorded last, when it was run under two policies; else the demo on the simulator. */
export function defaultChoice({ recordings, presets }: ReplayOptions): ReplayChoice {
  const base = {
    traffic: { kind: "workload" as const, name: "demo" },
    programs: 200,
    ratePerS: 2,
    seed: 1,
    engines: 1,
    preset: presets[0] ?? "a100-8b",
  };
  const demos = recordings.filter(({ name }) => name.startsWith("demo-policies."));
  const right = demos[0];
  const left = demos.find(({ policy }) => policy !== right?.policy);
  const side = ({ name }: Recording): SideChoice => ({ kind: "recording", name });
  if (!left || !right)
    return { ...base, left: { kind: "policy", name: "fcfs" }, right: { kind: "policy", name: "plas" } };
  return left.policy === "fcfs" || right.policy !== "fcfs"
    ? { ...base, left: side(left), right: side(right) }
    : { ...base, left: side(right), right: side(left) };
}

export interface ReplayFormProps {
  options: ReplayOptions;
  choice: ReplayChoice;
  isMaking: boolean;
  onChange(choice: ReplayChoice): void;
  onMake(): void;
  onUploaded(recording: Recording): void;
  onProblem(problem: string): void;
}

export function ReplayForm({ options, choice, isMaking, onChange, onMake, onUploaded, onProblem }: ReplayFormProps) {
  const set = (change: Partial<ReplayChoice>) => onChange({ ...choice, ...change });
  const isWorkload = choice.traffic.kind === "workload" && choice.traffic.name !== "demo";
  return (
    <form
      class="card replay-form"
      onSubmit={(event) => {
        event.preventDefault();
        onMake();
      }}
    >
      <label>
        Traffic
        <select
          value={`${choice.traffic.kind} ${choice.traffic.name}`}
          onChange={(event) => {
            const [kind, name] = splitOnce(event.currentTarget.value);
            set({ traffic: { kind: kind === "recording" ? "recording" : "workload", name } });
          }}
        >
          <optgroup label="Workloads">
            {options.workloads.map(({ name, about }) => (
              <option key={name} value={`workload ${name}`}>
                {name}: {about}
              </option>
            ))}
          </optgroup>
          <RecordingGroup label="Traffic of a recording" recordings={options.recordings} />
        </select>
      </label>
      <SideSelect label="Left" options={options} value={choice.left} onChange={(left) => set({ left })} />
      <SideSelect label="Right" options={options} value={choice.right} onChange={(right) => set({ right })} />
      <button type="submit" class="primary" disabled={isMaking}>
        {isMaking ? "Making …" : "Show"}
      </button>
      <details>
        <summary>More: size of the workload, engines, recordings from a file</summary>
        <div class="more">
          <Whole
            label="Programs"
            value={choice.programs}
            min={1}
            max={2_000}
            isOff={!isWorkload}
            onChange={(programs) => set({ programs })}
          />
          <label>
            Arrivals per second
            <input
              type="number"
              min="0.01"
              max="1000"
              step="any"
              disabled={!isWorkload}
              value={choice.ratePerS}
              onChange={(event) => set({ ratePerS: Number(event.currentTarget.value) })}
            />
          </label>
          <Whole
            label="Seed"
            value={choice.seed}
            min={0}
            max={2 ** 31}
            isOff={!isWorkload}
            onChange={(seed) => set({ seed })}
          />
          <Whole
            label="Engines"
            value={choice.engines}
            min={1}
            max={16}
            isOff={!isWorkload}
            onChange={(engines) => set({ engines })}
          />
          <label>
            Engine
            <select
              value={choice.preset}
              disabled={choice.traffic.name === "demo"}
              onChange={(event) => set({ preset: event.currentTarget.value })}
            >
              {options.presets.map((preset) => (
                <option key={preset}>{preset}</option>
              ))}
            </select>
          </label>
          <Upload onUploaded={onUploaded} onProblem={onProblem} />
        </div>
        <p class="note">
          A recording is made by <code>npm start -- --input-log FILE</code>; it holds sizes and times, never text. The
          simulator's numbers are a model's, for comparing policies.
        </p>
      </details>
    </form>
  );
}

function SideSelect(props: {
  label: string;
  options: ReplayOptions;
  value: SideChoice;
  onChange(side: SideChoice): void;
}) {
  const { label, options, value, onChange } = props;
  return (
    <label>
      {label}
      <select
        value={`${value.kind} ${value.name}`}
        onChange={(event) => {
          const [kind, name] = splitOnce(event.currentTarget.value);
          onChange(kind === "recording" ? { kind, name } : { kind: "policy", name });
        }}
      >
        <optgroup label="The traffic, simulated under">
          {options.policies.map(({ name, about }) => (
            <option key={name} value={`policy ${name}`}>
              {name}
              {about === "" ? "" : `: ${about}`}
            </option>
          ))}
        </optgroup>
        <RecordingGroup label="A recording, as it ran" recordings={options.recordings} />
      </select>
    </label>
  );
}

function RecordingGroup({ label, recordings }: { label: string; recordings: readonly Recording[] }) {
  if (recordings.length === 0) return null;
  return (
    <optgroup label={label}>
      {recordings.map((recording) => (
        <option key={recording.name} value={`recording ${recording.name}`}>
          {recordingText(recording)}
        </option>
      ))}
    </optgroup>
  );
}

interface WholeProps {
  label: string;
  value: number;
  min: number;
  max: number;
  isOff: boolean;
  onChange(value: number): void;
}

function Whole({ label, value, min, max, isOff, onChange }: WholeProps) {
  return (
    <label>
      {label}
      <input
        type="number"
        min={min}
        max={max}
        step={1}
        disabled={isOff}
        value={value}
        onChange={(event) => onChange(Math.round(Number(event.currentTarget.value)))}
      />
    </label>
  );
}

function Upload({ onUploaded, onProblem }: Pick<ReplayFormProps, "onUploaded" | "onProblem">) {
  const [isSending, setSending] = useState(false);
  const send = async (file: File) => {
    setSending(true);
    try {
      const response = await fetch(`/api/replay/recordings?name=${encodeURIComponent(file.name)}`, {
        method: "POST",
        headers: { "content-type": "application/x-ndjson" },
        body: file,
      });
      const answer = (await response.json()) as Recording & { error?: { message: string } };
      if (response.ok) onUploaded(answer);
      else onProblem(`${file.name}: ${answer.error?.message ?? response.status}`);
    } catch {
      onProblem(`${file.name} could not be sent`);
    } finally {
      setSending(false);
    }
  };
  return (
    <label>
      Recording from a file {isSending ? "(reading …)" : ""}
      <input
        type="file"
        accept=".jsonl"
        onChange={(event) => {
          const file = event.currentTarget.files?.[0];
          if (file) void send(file);
        }}
      />
    </label>
  );
}

function recordingText({ name, policy, bytes, kind }: Recording): string {
  return `${name.replace(/\.jsonl$/, "")} (${policy}, ${formatBytes(bytes)}${kind === "uploaded" ? ", uploaded" : ""})`;
}

function splitOnce(text: string): [string, string] {
  const at = text.indexOf(" ");
  return [text.slice(0, at), text.slice(at + 1)];
}
