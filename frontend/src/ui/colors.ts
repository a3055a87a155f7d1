/** The theme's colours, for drawing on a canvas. */
export function themeColors() {
  const style = getComputedStyle(document.documentElement);
  const variable = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    soft: variable("soft"),
    line: variable("line"),
    accent: variable("accent"),
    previous: variable("previous"),
    card: variable("card"),
  };
}

/** A pattern of diagonal lines, which marks provisional values. */
export function hatchPattern(color: string): CanvasPattern | string {
  const size = Math.round(6 * devicePixelRatio);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const c = tile.getContext("2d");
  if (!c) return color;
  c.globalAlpha = 0.35; // a bar of two or three pixels shows too little of the lines alone
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
