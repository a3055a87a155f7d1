import { classes } from "../classes";

/** The placeholder of a list that loads: bars with these widths in percent. */
export function SkeletonBars({ widths, className }: { widths: number[]; className: string }) {
  return widths.map((w) => (
    <div key={w} className={classes("skeleton", className)} style={{ width: `${w}%` }} />
  ));
}
