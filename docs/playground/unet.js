// The noise predictor ε_θ(x_t, t, c): unet/unet.py once more, for one image at a time.

import { upBlocks, widthsOf } from "./architecture.js";
import { Arena, activated, bordered, convolve, pack } from "./arena.js";
import { Level, groupNorm, linear, silu, timestepEmbedding } from "./layers.js";

export class UNet {
  // architecture, tensors: of `readWeights`. plain: the twin in the kernel's place.
  constructor(architecture, tensors, options) {
    const a = architecture;
    const arena = (this.arena = new Arena(options));
    const p = (this.p = (key) => tensors.get(key));
    const conv = (name, cIn, cOut) =>
      pack(arena, p(`${name}.weight`), p(`${name}.bias`), cOut, cIn, 3);
    const level = (name, cIn, cOut) => new Level(arena, tensors, name, cIn, cOut);
    Object.assign(this, { architecture: a, nullToken: a.classes });

    const widths = widthsOf(a);
    this.stem = conv("down.stem", a.channels, a.width);
    let c = a.width;
    this.down = widths.map((width, i) => {
      const blocks = Array.from({ length: a.blocks }, (_, j) => {
        const block = level(`down.levels.${i}.${j}`, c, width);
        c = width;
        return block;
      });
      const last = i === widths.length - 1;
      return { blocks, downsample: last ? null : conv(`down.downsample.${i}`, c, c) };
    });
    this.middle = [0, 1].map((i) => level(`middle.${i}`, c, c));
    this.up = upBlocks(a).map((shapes, i) => {
      const blocks = shapes.map(({ cIn, cOut }, j) => level(`up.${i}.${j}`, cIn, cOut));
      c = shapes[0].cOut;
      return { blocks, upsample: shapes[0].level ? conv(`upsample.${i}`, c, c) : null };
    });
    this.out = conv("out", c, a.channels);
    this.weights = arena.top; // above, each evaluation begins anew
  }

  // ε̂, flat (C·H·W) as x_t is. t: 1..T; c: 0..K, K = ∅.
  eps(x_t, t, c) {
    const { arena, architecture: a } = this;
    arena.top = this.weights;
    const emb = this.embedding(t, c);
    let h = convolve(arena, bordered(arena, this.channelsLast(x_t)), this.stem);
    const skips = [];
    for (const { blocks, downsample } of this.down) {
      for (const block of blocks) skips.push((h = block.run(h, emb)));
      if (downsample) h = convolve(arena, bordered(arena, h), downsample, 2);
    }
    for (const block of this.middle) h = block.run(h, emb);
    for (const { blocks, upsample } of this.up) {
      for (const block of blocks) h = block.run(beside(arena, h, skips.pop()), emb);
      if (upsample) h = convolve(arena, bordered(arena, doubled(arena, h)), upsample);
    }
    const norm = groupNorm(arena, h, this.p("norm.weight"), this.p("norm.bias"));
    h = convolve(arena, activated(arena, h, norm), this.out);
    const f = arena.f;
    const pixels = a.size * a.size;
    return Float32Array.from(
      x_t,
      (_, i) => f[h.at + (i % pixels) * h.channels + Math.floor(i / pixels)],
    );
  }

  // SiLU(time(t) + label(c)), (4·width,): all that a block wants of t and c.
  embedding(t, c) {
    const { p } = this;
    const first = linear(
      p("time.0.weight"),
      p("time.0.bias"),
      timestepEmbedding(t, this.architecture.width),
    );
    const time = linear(p("time.2.weight"), p("time.2.bias"), first.map(silu));
    return time.map((v, i) => silu(v + p("label.weight")[c * time.length + i]));
  }

  channelsLast(x) {
    const { size, channels } = this.architecture;
    const h = this.arena.tensor(size, size, channels);
    const f = this.arena.f;
    const pixels = size * size;
    for (let i = 0; i < x.length; i++) {
      f[h.at + (i % pixels) * channels + Math.floor(i / pixels)] = x[i];
    }
    return h;
  }
}

// torch.cat([h, skip], dim=1)
function beside(arena, h, skip) {
  const out = arena.tensor(h.height, h.width, h.channels + skip.channels);
  const f = arena.f;
  for (let p = 0, n = h.height * h.width; p < n; p++) {
    const to = out.at + p * out.channels;
    const [a, b] = [h.at + p * h.channels, skip.at + p * skip.channels];
    f.copyWithin(to, a, a + h.channels);
    f.copyWithin(to + h.channels, b, b + skip.channels);
  }
  return out;
}

// Each pixel four times: F.interpolate(scale_factor=2, mode="nearest")
function doubled(arena, h) {
  const out = arena.tensor(2 * h.height, 2 * h.width, h.channels);
  const f = arena.f;
  for (let y = 0; y < out.height; y++) {
    for (let x = 0; x < out.width; x++) {
      const from = h.at + ((y >> 1) * h.width + (x >> 1)) * h.channels;
      f.copyWithin(out.at + (y * out.width + x) * h.channels, from, from + h.channels);
    }
  }
  return out;
}
