// What a network is built from: the bounds of its arguments, and the name and shape of each of its
// parameters. unet/checks.py, unet/blocks.py, unet/unet.py, unet/judge.py.

// More can only be a mistake, or a file that wants to fill the memory of whoever opens it.
const MOST = { size: 4096, channels: 1024, classes: 1e6, width: 4096, blocks: 32 };
const LISTS = { multipliers: 64, attention: 4096 };
const LEVELS = 8;

const inRange = (value, most) => Number.isInteger(value) && value >= 1 && value <= most;

export function checkArchitecture(a, file) {
  const refuse = (key, allowed) => {
    throw new Error(`${file}: ${key} must be ${allowed}, got ${JSON.stringify(a[key])}`);
  };
  const unet = a.name === "UNet";
  for (const [key, most] of Object.entries(MOST)) {
    if (key === "blocks" && !unet) continue;
    if (!inRange(a[key], most)) refuse(key, `an integer in 1..${most}`);
  }
  if (!unet) return;
  for (const [key, most] of Object.entries(LISTS)) {
    const list = a[key];
    if (!Array.isArray(list) || list.length > LEVELS || !list.every((v) => inRange(v, most))) {
      refuse(key, `at most ${LEVELS} integers in 1..${most}`);
    }
  }
  if (!a.multipliers.length || a.width % 8) refuse("width", "a multiple of 8, with multipliers");
  const halvings = a.multipliers.length - 1;
  if (a.size % 2 ** halvings) refuse("size", `divisible by ${2 ** halvings}`);
  if (!a.attention.every((side) => sidesOf(a).includes(side))) {
    refuse("attention", `sides among ${sidesOf(a).join(", ")}`);
  }
}

// The side of the image at each level, in pixels.
export function sidesOf(a) {
  return a.multipliers.map((_, level) => a.size / 2 ** level);
}

// The channels at each level.
export function widthsOf(a) {
  return a.multipliers.map((m) => a.width * m);
}

// The blocks of the way up, from the coarsest level: {level, channels in, channels out}.
export function upBlocks(a) {
  const widths = widthsOf(a);
  let c = widths.at(-1);
  return widths.map((_, i) => {
    const level = widths.length - 1 - i;
    return Array.from({ length: a.blocks }, () => {
      const [cIn, cOut] = [c + widths[level], widths[level]]; // from below, and the skip beside it
      c = cOut;
      return { level, cIn, cOut };
    });
  });
}

// GroupNorm's groups: at most 32, of a multiple of 8 channels each.
export function groupsOf(channels) {
  let groups = Math.min(32, Math.floor(channels / 8));
  while ((channels / 8) % groups) groups--;
  return groups;
}

// Attention's heads: 32 channels each or more.
export function headsOf(channels) {
  let heads = Math.max(1, Math.floor(channels / 32));
  while (channels % heads) heads--;
  return heads;
}

// Map from each parameter's name to its shape.
export function shapesOf(a) {
  const shapes = new Map();
  const layer = (name, ...shape) => {
    shapes.set(`${name}.weight`, shape);
    shapes.set(`${name}.bias`, [shape[0]]);
  };
  if (a.name === "Judge") judgeShapes(a, shapes, layer);
  else unetShapes(a, shapes, layer);
  return shapes;
}

function unetShapes(a, shapes, layer) {
  const [widths, sides, emb] = [widthsOf(a), sidesOf(a), 4 * a.width];
  const level = (name, cIn, cOut, attention) => {
    layer(`${name}.block.norm_in`, cIn);
    layer(`${name}.block.conv_in`, cOut, cIn, 3, 3);
    layer(`${name}.block.scale_shift`, 2 * cOut, emb);
    layer(`${name}.block.norm_out`, cOut);
    layer(`${name}.block.conv_out`, cOut, cOut, 3, 3);
    if (cIn !== cOut) layer(`${name}.block.skip`, cOut, cIn, 1, 1);
    if (!attention) return;
    layer(`${name}.attention.norm`, cOut);
    layer(`${name}.attention.qkv`, 3 * cOut, cOut, 1, 1);
    layer(`${name}.attention.out`, cOut, cOut, 1, 1);
  };
  const attends = (i) => a.attention.includes(sides[i]);
  layer("time.0", emb, a.width);
  layer("time.2", emb, emb);
  shapes.set("label.weight", [a.classes + 1, emb]);
  layer("down.stem", a.width, a.channels, 3, 3);
  let c = a.width;
  widths.forEach((width, i) => {
    for (let j = 0; j < a.blocks; j++, c = width) {
      level(`down.levels.${i}.${j}`, c, width, attends(i));
    }
    if (i + 1 < widths.length) layer(`down.downsample.${i}`, width, width, 3, 3);
  });
  level("middle.0", c, c, attends(widths.length - 1));
  level("middle.1", c, c, false);
  upBlocks(a).forEach((blocks, i) => {
    blocks.forEach((b, j) => level(`up.${i}.${j}`, b.cIn, b.cOut, attends(b.level)));
    c = blocks[0].cOut;
    if (blocks[0].level) layer(`upsample.${i}`, c, c, 3, 3);
  });
  layer("norm", c);
  layer("out", a.channels, c, 3, 3);
}

// The channels before, between and after the judge's five convolutions.
export function judgeWidths(a) {
  return [a.channels, a.width, a.width, 2 * a.width, 2 * a.width, 2 * a.width];
}

function judgeShapes(a, shapes, layer) {
  const widths = judgeWidths(a);
  for (let i = 0; i < 5; i++) {
    const c = widths[i + 1];
    shapes.set(`convolutions.${i}.weight`, [c, widths[i], 3, 3]);
    layer(`norms.${i}`, c);
    for (const key of ["running_mean", "running_var"]) shapes.set(`norms.${i}.${key}`, [c]);
    shapes.set(`norms.${i}.num_batches_tracked`, []);
  }
  layer("head", a.classes, widths[5]);
}
