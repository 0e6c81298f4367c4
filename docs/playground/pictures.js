// Images on canvases: as they are, and differences around zero.

// Grey or RGB, from [-1, 1]; what lies outside is clipped. image: flat (C·H·W).
export function drawImage(canvas, image, { size, channels }) {
  if (shows(canvas, image)) return;
  const pixels = size * size;
  const at = [0, 1, 2].map((c) => Math.min(c, channels - 1) * pixels);
  paint(canvas, size, (data, i) => {
    for (let c = 0; c < 3; c++) data[4 * i + c] = 127.5 * (1 + image[at[c] + i]);
  });
}

const [LOW, MIDDLE, HIGH] = [[0, 114, 178], [247, 247, 247], [213, 94, 0]]; // Okabe and Ito's

// From blue over the middle to orange; scale is the value with full colour. Of several channels
// their mean is shown.
export function drawSigned(canvas, image, { size, channels }, scale) {
  if (shows(canvas, image, scale)) return;
  const pixels = size * size;
  paint(canvas, size, (data, i) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += image[c * pixels + i];
    const v = Math.max(-1, Math.min(1, sum / channels / scale || 0));
    const end = v < 0 ? LOW : HIGH;
    for (let c = 0; c < 3; c++) data[4 * i + c] = MIDDLE[c] + Math.abs(v) * (end[c] - MIDDLE[c]);
  });
}

// An empty frame, while nothing is known.
export function drawNothing(canvas, { size }) {
  if (!shows(canvas, null, size)) canvas.width = canvas.height = size;
}

// Whether the canvas shows this already; from now on it does.
const shown = new WeakMap();
function shows(canvas, image, scale = 0) {
  const last = shown.get(canvas);
  if (last && last.image === image && last.scale === scale) return true;
  shown.set(canvas, { image, scale });
  return false;
}

function paint(canvas, size, colour) {
  if (canvas.width !== size || canvas.height !== size) canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const data = new Uint8ClampedArray(4 * size * size).fill(255);
  for (let i = 0; i < size * size; i++) colour(data, i);
  context.putImageData(new ImageData(data, size, size), 0, 0);
}

// a − b with its norm and its largest value, computed once for each a.
const known = new WeakMap();
export function difference(a, b) {
  if (known.get(a)?.from !== b) {
    const values = a.map((v, i) => v - b[i]);
    const most = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    known.set(a, { from: b, values, most, norm: Math.sqrt(values.reduce((s, v) => s + v * v, 0)) });
  }
  return known.get(a);
}
