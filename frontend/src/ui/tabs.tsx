import { classes } from "../classes";

interface Tab<Id> {
  id: Id;
  name: string;
}

interface Props<Id> {
  label: string;
  tabs: readonly Tab<Id>[];
  selected: Id;
  onSelect: (id: Id) => void;
  className: string;
  tabClassName: string;
}

/** A row of tabs, of which one is selected. */
export function Tabs<Id extends string>(props: Props<Id>) {
  return (
    <div role="tablist" aria-label={props.label} className={props.className}>
      {props.tabs.map(({ id, name }) => (
        <button
          key={id}
          type="button"
          role="tab"
          aria-selected={id === props.selected}
          onClick={() => props.onSelect(id)}
          className={classes(
            "target rounded-md",
            props.tabClassName,
            id === props.selected ? "bg-raised text-ink" : "quiet",
          )}
        >
          {name}
        </button>
      ))}
    </div>
  );
}
