import { type FormEvent, useState } from "react";
import { type DateRange, type Period, type Preset, presets } from "../../period";
import { href, navigate, type Route } from "../../route";
import { Dialog } from "../../ui/dialog";

/** Selects a period: by preset, by custom dates, or the previous and next one. */
export function PeriodPicker({ route, range }: { route: Route; range: DateRange }) {
  const [customOpen, setCustomOpen] = useState(false);
  const { period } = route;
  const select = (p: Period) => navigate(href({ ...route, period: p }));
  const move = (by: number) => select({ ...period, offset: period.offset + by });
  const isNewest = period.offset >= 0;
  return (
    <>
      <div className="flex items-center gap-1">
        <button type="button" className="button px-2.5" aria-label="Previous period" onClick={() => move(-1)}>
          ←
        </button>
        <select
          aria-label="Period"
          className="field font-medium"
          value={period.preset}
          onChange={(e) => {
            if (e.target.value === "custom") setCustomOpen(true);
            else select({ preset: e.target.value as Preset, offset: 0 });
          }}
        >
          {presets.map(({ id, name }) => (
            <option key={id} value={id}>
              {id === period.preset ? range.label : name}
            </option>
          ))}
          <option value="custom">{period.preset === "custom" ? range.label : "Custom…"}</option>
        </select>
        <button
          type="button"
          className="button px-2.5"
          aria-label="Next period"
          disabled={isNewest}
          onClick={() => move(1)}
        >
          <span className={isNewest ? "opacity-40" : ""}>→</span>
        </button>
      </div>
      {customOpen && <CustomPeriod range={range} onSelect={select} onClose={() => setCustomOpen(false)} />}
    </>
  );
}

interface CustomPeriodProps {
  range: DateRange;
  onSelect: (p: Period) => void;
  onClose: () => void;
}

/** Asks for the first and the last day, in either order; it begins with the current range. */
function CustomPeriod({ range, onSelect, onClose }: CustomPeriodProps) {
  const days = range.buckets.filter((bucket) => bucket.length === "YYYY-MM-DD".length);
  const [from, setFrom] = useState(days[0] ?? range.bounds[0].slice(0, 10));
  const [to, setTo] = useState(days.at(-1) ?? range.bounds[1].slice(0, 10));
  const submit = (e: FormEvent) => {
    e.preventDefault();
    onSelect({ preset: "custom", offset: 0, from: from < to ? from : to, to: from < to ? to : from });
    onClose();
  };
  return (
    <Dialog title="Custom period" onClose={onClose}>
      <form className="flex flex-wrap items-end gap-3" onSubmit={submit}>
        <DateField label="From" value={from} onChange={setFrom} />
        <DateField label="To" value={to} onChange={setTo} />
        <button type="submit" className="button button-primary min-h-9">
          Show
        </button>
      </form>
    </Dialog>
  );
}

interface DateFieldProps {
  label: string;
  value: string;
  onChange: (date: string) => void;
}

function DateField({ label, value, onChange }: DateFieldProps) {
  return (
    <label className="flex flex-col gap-1.5">
      {label}
      <input
        type="date"
        className="field"
        value={value}
        onChange={(e) => onChange(e.target.value)}
        required
      />
    </label>
  );
}
