// The judge of clean images: unet/judge.py once more. What guides is not what judges.

import { judgeWidths } from "./architecture.js";
import { Arena, bordered, convolve, pack } from "./arena.js";
import { linear } from "./layers.js";

const EPS = 1e-5; // torch's, of BatchNorm2d
const STRIDES = [1, 2, 1, 2, 1];

export class Judge {
  constructor(architecture, tensors, options) {
    const arena = (this.arena = new Arena(options));
    const p = (this.p = (key) => tensors.get(key));
    this.architecture = architecture;
    const widths = judgeWidths(architecture);
    // Outside of training a batch norm is a factor and a summand: they go into the convolution.
    this.convolutions = STRIDES.map((stride, i) => {
      const [cIn, cOut] = [widths[i], widths[i + 1]];
      const n = (key) => p(`norms.${i}.${key}`);
      const factor = n("weight").map((w, o) => w / Math.sqrt(n("running_var")[o] + EPS));
      const bias = n("bias").map((b, o) => b - n("running_mean")[o] * factor[o]);
      const each = 9 * cIn; // numbers for one output channel
      const kernels = p(`convolutions.${i}.weight`);
      const weight = kernels.map((w, at) => w * factor[Math.floor(at / each)]);
      return { stride, cOut, layer: pack(arena, weight, bias, cOut, cIn, 3) };
    });
    this.weights = arena.top;
  }

  // Logits (K,) of one image, flat (C·H·W) in [-1, 1].
  logits(image) {
    const { arena, architecture: a } = this;
    arena.top = this.weights;
    let h = arena.tensor(a.size, a.size, a.channels);
    const pixels = a.size * a.size;
    for (let f = arena.f, i = 0; i < image.length; i++) {
      f[h.at + (i % pixels) * a.channels + Math.floor(i / pixels)] = image[i];
    }
    for (const { layer, stride, cOut } of this.convolutions) {
      h = this.relu(convolve(arena, bordered(arena, h), layer, stride), cOut);
    }
    const f = arena.f;
    const n = h.height * h.width;
    const features = Float32Array.from({ length: h.channels }, (_, c) => {
      let sum = 0;
      for (let p = 0; p < n; p++) sum += f[h.at + p * h.channels + c];
      return sum / n;
    });
    return linear(this.p("head.weight"), this.p("head.bias"), features);
  }

  // In place, and without the channels that were filled up.
  relu(h, channels) {
    const f = this.arena.f;
    const n = h.height * h.width;
    const out = channels === h.channels ? h : this.arena.tensor(h.height, h.width, channels);
    for (let p = 0; p < n; p++) {
      for (let c = 0; c < channels; c++) {
        f[out.at + p * channels + c] = Math.max(0, f[h.at + p * h.channels + c]);
      }
    }
    return out;
  }
}

// How likely each label is: of classes a softmax, of concepts a sigmoid each.
export function probabilities(logits, concepts) {
  if (concepts) return [...logits].map((v) => 1 / (1 + Math.exp(-v)));
  const most = Math.max(...logits);
  const e = [...logits].map((v) => Math.exp(v - most));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}
