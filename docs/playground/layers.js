// The parts of the U-Net: unet/blocks.py once more, for one image.

import { groupsOf, headsOf } from "./architecture.js";
import { activated, convolve, pack, to2 } from "./arena.js";

const { fround } = Math;
const EPS = 1e-5; // torch's, of GroupNorm

// [cos(t·ω_i), sin(t·ω_i)], ω_i = 10000^(−2i/dim), i = 0 … dim/2 − 1, in float32 as torch does it.
// DDPM App. B
export function timestepEmbedding(t, dim) {
  const half = dim >> 1;
  const rate = fround((-2 * Math.log(1e4)) / dim);
  const found = new Float32Array(2 * half);
  for (let i = 0; i < half; i++) {
    const angle = fround(t * fround(Math.exp(fround(i * rate))));
    found[i] = Math.cos(angle);
    found[half + i] = Math.sin(angle);
  }
  return found;
}

export const silu = (v) => v / (1 + Math.exp(-v));

// W·x + b, with W (O, I).
export function linear(weight, bias, x) {
  return Float32Array.from(bias, (b, o) => {
    let sum = b;
    for (let i = 0, at = o * x.length; i < x.length; i++) sum += weight[at + i] * x[i];
    return sum;
  });
}

// GroupNorm as a factor and a summand for each channel: h·factor + summand.
export function groupNorm(arena, x, weight, bias) {
  const [f, C, pixels] = [arena.f, x.channels, x.height * x.width];
  const groups = groupsOf(C);
  const [size, n] = [C / groups, (C / groups) * pixels];
  const [factor, summand] = [new Float64Array(C), new Float64Array(C)];
  const [sum, square] = [new Float64Array(groups), new Float64Array(groups)];
  for (let p = 0, i = x.at; p < pixels; p++) {
    for (let g = 0; g < groups; g++) {
      let [s, q] = [0, 0];
      for (const end = i + size; i < end; i++) {
        const v = f[i];
        s += v;
        q += v * v;
      }
      sum[g] += s;
      square[g] += q;
    }
  }
  for (let c = 0; c < C; c++) {
    const mean = sum[Math.floor(c / size)] / n;
    const variance = square[Math.floor(c / size)] / n - mean * mean; // in float64 there is room
    factor[c] = weight[c] / Math.sqrt(variance + EPS);
    summand[c] = bias[c] - mean * factor[c];
  }
  return { factor, summand };
}

// A residual block, and self-attention behind it where the file has it.
export class Level {
  constructor(arena, tensors, name, cIn, cOut) {
    const p = (key) => tensors.get(`${name}.${key}`);
    const conv = (key, i, o, side) => pack(arena, p(`${key}.weight`), p(`${key}.bias`), o, i, side);
    Object.assign(this, { arena, p, cOut });
    this.convIn = conv("block.conv_in", cIn, cOut, 3);
    this.convOut = conv("block.conv_out", cOut, cOut, 3);
    this.skip = p("block.skip.weight") && conv("block.skip", cIn, cOut, 1);
    this.attends = Boolean(p("attention.norm.weight"));
    if (!this.attends) return;
    this.qkv = conv("attention.qkv", cOut, 3 * cOut, 1);
    this.out = conv("attention.out", cOut, cOut, 1);
  }

  norm(name, x) {
    return groupNorm(this.arena, x, this.p(`${name}.weight`), this.p(`${name}.bias`));
  }

  // h + conv(SiLU(AdaGN(conv(SiLU(GroupNorm(h))), y))),  AdaGN(h, y) = y_s·GroupNorm(h) + y_b with
  // [y_s − 1, y_b] linear in the embedding. ADM Sec. 3. emb: after its SiLU.
  run(x, emb) {
    const { arena, cOut } = this;
    const inner = convolve(arena, activated(arena, x, this.norm("block.norm_in", x)), this.convIn);
    const y = linear(this.p("block.scale_shift.weight"), this.p("block.scale_shift.bias"), emb);
    const { factor, summand } = this.norm("block.norm_out", inner);
    for (let c = 0; c < cOut; c++) {
      factor[c] *= 1 + y[c];
      summand[c] = summand[c] * (1 + y[c]) + y[cOut + c];
    }
    const h = convolve(arena, activated(arena, inner, { factor, summand }), this.convOut);
    addTo(arena, h, this.skip ? convolve(arena, x, this.skip) : x);
    return this.attends ? this.attention(h) : h;
  }

  // h + Attention(GroupNorm(h)) over the pixels: softmax(Q·Kᵀ/√d)·V for each head. DDPM App. B
  attention(x) {
    const { arena } = this;
    const [N, C] = [x.height * x.width, x.channels];
    const heads = headsOf(C);
    const d = C / heads;
    const { factor, summand } = this.norm("attention.norm", x);
    const normed = arena.tensor(x.height, x.width, C);
    for (let f = arena.f, i = 0; i < N * C; i++) {
      f[normed.at + i] = f[x.at + i] * factor[i % C] + summand[i % C];
    }
    const qkv = convolve(arena, normed, this.qkv);
    const read = (f, part, head, n, j) => f[qkv.at + n * 3 * C + part * C + head * d + j];
    const gathered = arena.tensor(x.height, x.width, C);
    for (let head = 0; head < heads; head++) {
      const q = arena.tensor(1, N, to2(d));
      fill(arena, q, N, d, (f, n, j) => read(f, 0, head, n, j) / Math.sqrt(d));
      const f = arena.f;
      const keys = Float32Array.from({ length: N * d }, (_, i) =>
        read(f, 1, head, Math.floor(i / d), i % d),
      );
      const values = Float32Array.from({ length: d * N }, (_, i) =>
        read(f, 2, head, i % N, Math.floor(i / N)),
      );
      const scores = convolve(arena, q, pack(arena, keys, null, N, d, 1)); // (N, N filled up to 8)
      softmax(arena, scores, N);
      const layer = pack(arena, values, null, d, N, 1); // (N, d filled up to 8)
      const out = convolve(arena, scores, layer);
      const g = arena.f;
      for (let n = 0; n < N; n++) {
        const from = out.at + n * out.channels;
        g.copyWithin(gathered.at + n * C + head * d, from, from + d);
      }
    }
    const h = convolve(arena, gathered, this.out);
    addTo(arena, h, x);
    return h;
  }
}

function addTo(arena, h, x) {
  const f = arena.f;
  for (let i = 0, n = h.height * h.width * h.channels; i < n; i++) f[h.at + i] += f[x.at + i];
}

function fill(arena, x, N, d, value) {
  const f = arena.f;
  for (let n = 0; n < N; n++) {
    for (let j = 0; j < x.channels; j++) f[x.at + n * x.channels + j] = j < d ? value(f, n, j) : 0;
  }
}

// Over the first N numbers of each row. The kernel reads one more where N is odd: it is set to 0.
function softmax(arena, scores, N) {
  const f = arena.f;
  for (let n = 0; n < scores.width; n++) {
    const row = f.subarray(scores.at + n * scores.channels, scores.at + (n + 1) * scores.channels);
    const most = row.subarray(0, N).reduce((a, b) => Math.max(a, b), -Infinity);
    let sum = 0;
    for (let i = 0; i < N; i++) sum += row[i] = Math.exp(row[i] - most);
    for (let i = 0; i < row.length; i++) row[i] = i < N ? row[i] / sum : 0;
  }
}

