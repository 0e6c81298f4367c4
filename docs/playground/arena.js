// The memory that JavaScript and the kernel share: weights at the bottom, and above them what one
// evaluation makes, which the next one overwrites.

import { hasSimd, kernel } from "./kernel.js";
import { twin } from "./twin.js";

const PAGE = 65536; // bytes

// A tensor is {at, height, width, channels}: at counts float32, channels last.
export class Arena {
  constructor({ plain = !hasSimd() } = {}) {
    this.memory = new WebAssembly.Memory({ initial: 1 });
    Object.assign(this, (plain ? twin : kernel)(this.memory)); // product, activate
    this.top = 0;
  }

  // Ask anew after each allocation: memory that grows moves.
  get f() {
    return new Float32Array(this.memory.buffer);
  }

  // Room for n float32, where the kernel's last tile of a row may run over the end. Not cleared.
  allocate(n) {
    const at = this.top;
    this.top = (at + n + 3) & ~3;
    const slack = 2 * PAGE;
    const missing = 4 * this.top + slack - this.memory.buffer.byteLength;
    if (missing > 0) {
      try {
        this.memory.grow(Math.ceil(missing / PAGE) + 64);
      } catch {
        throw new Error("this network needs more memory than the browser gives");
      }
    }
    return at;
  }

  tensor(height, width, channels) {
    return { at: this.allocate(height * width * channels), height, width, channels };
  }
}

export const to8 = (channels) => Math.ceil(channels / 8) * 8;
export const to2 = (channels) => Math.ceil(channels / 2) * 2;

// A convolution (or linear layer, side = 1) as the kernel takes it: [block of 8][row][k][8], with
// zeros where channels are filled up. weight: (O, I, side, side), bias: (O,) or null.
export function pack(arena, weight, bias, cOut, cIn, side) {
  const [blocks, filled] = [to8(cOut) / 8, to2(cIn)];
  const K = side * filled;
  const w = arena.allocate(8 * blocks * side * K);
  const b = arena.allocate(8 * blocks);
  const f = arena.f;
  f.fill(0, w, w + 8 * blocks * side * K);
  f.fill(0, b, b + 8 * blocks);
  for (let o = 0; o < cOut; o++) {
    if (bias) f[b + o] = bias[o];
    for (let i = 0; i < cIn; i++) {
      for (let dy = 0; dy < side; dy++) {
        for (let dx = 0; dx < side; dx++) {
          const at = ((o >> 3) * side + dy) * K + dx * filled + i;
          f[w + 8 * at + (o & 7)] = weight[((o * cIn + i) * side + dy) * side + dx];
        }
      }
    }
  }
  return { w, b, blocks, K, side, channels: 8 * blocks };
}

// The convolution of x, which a side of 3 wants with a border of zeros around it (`bordered`).
export function convolve(arena, x, layer, stride = 1) {
  const border = layer.side - 1;
  const [height, width] = [x.height, x.width].map((n) => Math.ceil((n - border) / stride));
  const out = arena.tensor(height, width, layer.channels);
  const pixel = 4 * x.channels;
  const row = x.width * pixel;
  arena.product(
    4 * x.at, stride * pixel, stride * row, row, layer.side, layer.K, 4 * layer.w, 4 * layer.b,
    4 * out.at, 4 * out.channels, 4 * width * out.channels, width, height, layer.blocks,
  );
  return out;
}

// A tensor for x with a border of one pixel, all zeros, its channels filled up to an even number.
function border(arena, x) {
  const out = arena.tensor(x.height + 2, x.width + 2, to2(x.channels));
  arena.f.fill(0, out.at, out.at + out.height * out.width * out.channels);
  return out;
}

// x with a border of zeros, as a convolution wants it.
export function bordered(arena, x) {
  const out = border(arena, x);
  const [f, channels] = [arena.f, out.channels];
  const row = out.width * channels;
  for (let y = 0; y < x.height; y++) {
    const [from, to] = [x.at + y * x.width * x.channels, out.at + (y + 1) * row + channels];
    for (let i = 0; i < x.width; i++) {
      const pixel = from + i * x.channels;
      f.copyWithin(to + i * channels, pixel, pixel + x.channels);
    }
  }
  return out;
}

// SiLU(x·factor + summand) with a border of zeros; a factor and a summand for each channel.
export function activated(arena, x, { factor, summand }) {
  const out = border(arena, x);
  const C = x.channels;
  const at = arena.allocate(2 * C);
  arena.f.set(factor, at);
  arena.f.set(summand, at + C);
  arena.activate(
    4 * x.at, 4 * x.width * C, 4 * (out.at + (out.width + 1) * C), 4 * out.width * C,
    4 * at, 4 * (at + C), 4 * C, x.width, x.height,
  );
  return out;
}
