// Lines over the steps of a run, as SVG: how strongly p₊ and p₋ pull.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [440, 190, 34, 76, 10, 34];

function make(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  text.split(/_(.)/u).forEach((part, i) => {
    const span = document.createElementNS(SVG, "tspan"); // what follows an underscore is lower
    span.textContent = part;
    span.setAttribute("dy", [0, 3, -3][i ? 2 - (i % 2) : 0]);
    if (part) made.append(span);
  });
  return made;
}

// series: [{name, kind, points: [[t, value], …]}]; kind is a class of the style sheet.
// T: t runs from T to 0; now: the t of the cursor; label: for a screen reader.
export function chart(svg, { series, T, now, label }) {
  const most = Math.max(...series.flatMap((s) => s.points.map((p) => p[1])), 1e-9);
  const x = (t) => LEFT + (1 - t / T) * (WIDTH - LEFT - RIGHT);
  const y = (v) => HEIGHT - BOTTOM - (v / most) * (HEIGHT - TOP - BOTTOM);
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.replaceChildren();
  const line = (x1, y1, x2, y2, kind) => svg.append(make("line", { x1, y1, x2, y2, class: kind }));
  const text = (words, x, y, anchor = "middle", kind = "") =>
    svg.append(make("text", { x, y, "text-anchor": anchor, class: kind }, words));
  line(LEFT, y(0), WIDTH - RIGHT, y(0), "axis");
  line(LEFT, TOP, LEFT, y(0), "axis");
  for (const part of [1, 0.75, 0.5, 0.25, 0]) {
    text(String(Math.round(part * T)), x(part * T), HEIGHT - BOTTOM + 14);
  }
  text("t (noise on the left, the image on the right)", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4);
  text("0", LEFT - 5, y(0) + 4, "end");
  text(most.toPrecision(2), LEFT - 5, TOP + 8, "end");
  line(x(now), TOP, x(now), y(0), "cursor");
  const ends = [];
  for (const { name, kind, points } of series) {
    if (!points.length) continue;
    const d = points.map(([t, v], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(v).toFixed(1)}`);
    svg.append(make("path", { d: d.join(""), class: `line ${kind}` }));
    if (!name) continue;
    const [t, v] = points.at(-1);
    let at = y(v) + 4;
    while (ends.some((other) => Math.abs(other - at) < 12)) at -= 12; // names that would overlap
    ends.push(at);
    text(name, x(t) + 4, at, "start", kind);
  }
}
