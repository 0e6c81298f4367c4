// The plane of the exact world: densities as contours, the predictor as arrows, points and paths.

export const REACH = 3; // the plane shows −REACH..REACH both ways
const GRID = 96; // cells of the density, each way
const ARROWS = 17;
const LEVELS = [0.7, 2, 4, 6.5, 9]; // of −log p below its maximum

// A canvas as sharp as the screen, cleared; scale: from the plane to its pixels.
export function prepare(canvas) {
  const side = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)) || 480;
  canvas.width = canvas.height = side;
  const c = canvas.getContext("2d");
  const to = (v) => ((v + REACH) / (2 * REACH)) * side;
  return { c, side, to, x: to, y: (v) => side - to(v), unit: side / (2 * REACH) };
}

// Contours of log p over the plane. logProb: of flat points (B, 2), gives (B,).
export function contours({ c, x, y, unit }, logProb, colour) {
  const n = GRID + 1;
  const points = new Float64Array(2 * n * n);
  const place = (i) => -REACH + (2 * REACH * i) / GRID;
  for (let i = 0; i < n * n; i++) {
    points[2 * i] = place(i % n);
    points[2 * i + 1] = place(Math.floor(i / n));
  }
  const log = logProb(points);
  const most = log.reduce((a, b) => Math.max(a, b), -Infinity);
  c.strokeStyle = colour;
  c.lineWidth = Math.max(1, unit / 80);
  LEVELS.forEach((level, rank) => {
    c.globalAlpha = 0.9 - 0.15 * rank;
    c.beginPath();
    for (let j = 0; j < GRID; j++) {
      for (let i = 0; i < GRID; i++) {
        const corners = [j * n + i, j * n + i + 1, (j + 1) * n + i + 1, (j + 1) * n + i];
        const crossed = edges(corners.map((at) => log[at] - most + level), i, j);
        for (let e = 0; e + 1 < crossed.length; e += 2) {
          c.moveTo(x(place(crossed[e][0])), y(place(crossed[e][1])));
          c.lineTo(x(place(crossed[e + 1][0])), y(place(crossed[e + 1][1])));
        }
      }
    }
    c.stroke();
  });
  c.globalAlpha = 1;
}

// Where the zero of a bilinear surface crosses the edges of cell (i, j): marching squares.
function edges(values, i, j) {
  const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
  const found = [];
  for (let e = 0; e < 4; e++) {
    const [a, b] = [values[e], values[(e + 1) % 4]];
    if (a > 0 === b > 0) continue;
    const part = a / (a - b);
    const [from, to] = [corners[e], corners[(e + 1) % 4]];
    found.push([from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1])]);
  }
  return found;
}

// −ε̂ on a grid: where a step takes a point. Long ones are shown at one length, as the field of a
// strong guidance would else cover all.
export function field({ c, x, y, unit }, eps, colour) {
  const points = new Float64Array(2 * ARROWS * ARROWS);
  const place = (i) => -REACH + (2 * REACH * (i + 0.5)) / ARROWS;
  for (let i = 0; i < ARROWS * ARROWS; i++) {
    points[2 * i] = place(i % ARROWS);
    points[2 * i + 1] = place(Math.floor(i / ARROWS));
  }
  const values = eps(points);
  const longest = (0.85 * 2 * REACH) / ARROWS;
  c.strokeStyle = c.fillStyle = colour;
  c.lineWidth = Math.max(1, unit / 70);
  for (let i = 0; i < ARROWS * ARROWS; i++) {
    const [dx, dy] = [-values[2 * i], -values[2 * i + 1]];
    const length = Math.hypot(dx, dy);
    if (length < 1e-3) continue;
    const drawn = longest * Math.tanh(length / 1.5);
    const [ux, uy] = [dx / length, dy / length];
    const [ax, ay] = [x(points[2 * i]), y(points[2 * i + 1])];
    const [bx, by] = [ax + ux * drawn * unit, ay - uy * drawn * unit];
    const head = Math.min(drawn * unit * 0.5, unit / 14);
    c.beginPath();
    c.moveTo(ax, ay);
    c.lineTo(bx, by);
    c.moveTo(bx - head * (ux + 0.6 * uy), by + head * (uy - 0.6 * ux));
    c.lineTo(bx, by);
    c.lineTo(bx - head * (ux - 0.6 * uy), by + head * (uy + 0.6 * ux));
    c.stroke();
  }
}

// The paths of the first points up to a state.
export function paths({ c, x, y, unit }, states, at, n, colourOf) {
  c.lineWidth = Math.max(1, unit / 90);
  c.globalAlpha = 0.35;
  for (let b = 0; b < n; b++) {
    c.strokeStyle = colourOf(b);
    c.beginPath();
    for (let k = 0; k <= at; k++) {
      const [px, py] = [x(states[k][2 * b]), y(states[k][2 * b + 1])];
      if (k) c.lineTo(px, py);
      else c.moveTo(px, py);
    }
    c.stroke();
  }
  c.globalAlpha = 1;
}

// Points as marks that differ in shape as well as in colour: triangle, disc, square.
export function points({ c, x, y, unit }, state, kindOf, colours) {
  const r = Math.max(2, unit / 22);
  c.globalAlpha = 0.75;
  for (let b = 0; b < state.length / 2; b++) {
    const kind = kindOf(b);
    const [px, py] = [x(state[2 * b]), y(state[2 * b + 1])];
    c.fillStyle = colours[kind];
    mark(c, kind, px, py, r);
  }
  c.globalAlpha = 1;
}

export function mark(c, kind, px, py, r) {
  c.beginPath();
  if (kind === "minus") {
    c.moveTo(px, py - 1.5 * r);
    c.lineTo(px + 1.4 * r, py + r);
    c.lineTo(px - 1.4 * r, py + r);
  } else if (kind === "plus") {
    c.arc(px, py, 1.1 * r, 0, 2 * Math.PI);
  } else {
    c.rect(px - 0.8 * r, py - 0.8 * r, 1.6 * r, 1.6 * r);
  }
  c.fill();
}
