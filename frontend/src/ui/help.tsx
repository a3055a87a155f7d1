import { presets } from "../period";
import { Dialog } from "./dialog";

const shortcuts: [string, string][] = [
  ["l", "Live"],
  ["h", "History"],
  ...presets.map((p): [string, string] => [p.key, p.name]),
  ["← →", "Previous and next period"],
  ["/", "Search in a list"],
  ["x", "Clear the filters"],
  ["?", "This help"],
  ["Esc", "Close"],
];

/** The list of keyboard shortcuts; shortcuts.ts handles them. */
export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl className="grid grid-cols-[auto_1fr] gap-x-6 gap-y-2">
        {shortcuts.map(([key, action]) => (
          <div key={key} className="contents">
            <dt>
              <kbd className="rounded border border-line bg-raised px-2 py-0.5 font-medium">{key}</kbd>
            </dt>
            <dd>{action}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
