// Images on canvases: as they are, and differences around zero.

// Grey or RGB, from [-1, 1]; what lies outside is clipped. image: flat (C·H·W).
export function drawImage(canvas, image, { size, channels }) {
  const pixels = size * size;
  paint(canvas, size, (i) => {
    const value = (c) => 127.5 * (1 + image[Math.min(c, channels - 1) * pixels + i]);
    return [value(0), value(1), value(2)];
  });
}

// From blue over the middle to orange; scale is the value with full colour. Of several channels
// their mean is shown.
export function drawSigned(canvas, image, { size, channels }, scale) {
  const pixels = size * size;
  const [low, middle, high] = [[0, 114, 178], [247, 247, 247], [213, 94, 0]]; // Okabe and Ito's
  paint(canvas, size, (i) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += image[c * pixels + i];
    const v = Math.max(-1, Math.min(1, sum / channels / scale || 0));
    const end = v < 0 ? low : high;
    return middle.map((m, j) => m + Math.abs(v) * (end[j] - m));
  });
}

// An empty frame, while nothing is known.
export function drawNothing(canvas, { size }) {
  canvas.width = canvas.height = size;
}

function paint(canvas, size, colour) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const data = context.createImageData(size, size);
  for (let i = 0; i < size * size; i++) data.data.set([...colour(i), 255], 4 * i);
  context.putImageData(data, 0, 0);
}

export const norm = (values) => Math.hypot(...values);
export const difference = (a, b) => a.map((v, i) => v - b[i]);
