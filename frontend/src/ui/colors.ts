/** The theme's colours, for what is drawn on a canvas. */
export function colors() {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: of("ink"),
    soft: of("soft"),
    line: of("line"),
    accent: of("accent"),
    bar: of("bar"),
    past: of("past"),
    card: of("card"),
    raised: of("raised"),
  };
}

/** Diagonal lines: what is drawn with them isn't final. */
export function hatch(color: string): CanvasPattern | string {
  const size = Math.round(6 * devicePixelRatio);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const c = tile.getContext("2d");
  if (!c) return color;
  c.globalAlpha = 0.35; // at two or three pixels a bar the lines alone would be lost
  c.fillStyle = color;
  c.fillRect(0, 0, size, size);
  c.globalAlpha = 1;
  c.strokeStyle = color;
  c.lineWidth = 1.5 * devicePixelRatio;
  c.beginPath();
  for (const x of [-size, 0, size]) {
    c.moveTo(x, size);
    c.lineTo(x + size, 0);
  }
  c.stroke();
  return c.createPattern(tile, "repeat") ?? color;
}
