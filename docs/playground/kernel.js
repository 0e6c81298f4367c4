// The two hot loops, as a WebAssembly SIMD module that is assembled here, byte by byte.
// Images are (H, W, C), channels last; addresses and strides are in bytes. `twin.js` says the same
// in plain JavaScript.

import { add, assembled, constant, less, locals, select, subtract, times, v } from "./assembler.js";

// product: an output pixel's channels are bias + Σ_tap Σ_k x[tap][k]·w[tap][k]. A 3×3 convolution
// is three taps, the rows above, at and below a pixel, of K = 3·C numbers that lie side by side; a
// 1×1 convolution and the two products of attention are one tap. Weights lie as [block of 8
// outputs][tap][k][8]. The tile is 4 pixels × 8 channels: 8 vectors of sums, that stay in registers
// over all k. K must be even: the inner loop takes two k at a time.
function product() {
  const { get, set, loop, type, code } = locals(
    // where x begins, and to the next pixel, row, tap; …; output pixels, and its channels/8
    ["x", "xPixel", "xRow", "xTap", "taps", "K", "w", "bias",
     "out", "outPixel", "outRow", "width", "height", "blocks"],
    ["block", "row", "col", "tap", "k", "first", "base", "p0", "p1", "p2", "p3", "pw"],
    ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "w0", "w1", "value"],
  );
  const pixels = [0, 1, 2, 3];
  // One k (u = 0) and the next (u = 1): a += x·w for the tile.
  const multiplyAdd = (u) => [
    ...set("w0", v.load(get("pw"), 32 * u)),
    ...set("w1", v.load(get("pw"), 32 * u + 16)),
    ...pixels.flatMap((i) => [
      ...set("value", v.splat(get(`p${i}`), 4 * u)),
      ...[0, 1].flatMap((j) => {
        const sum = `a${2 * i + j}`;
        return set(sum, v.add(get(sum), v.times(get("value"), get(`w${j}`))));
      }),
    ]),
  ];
  const blockBytes = times(get("block"), constant(32)); // 8 float32
  const from = (start, index, stride) => add(start, times(get(index), get(stride)));
  // The last tile of a row is moved left until it fits; where a row has less than four pixels it
  // runs over its end, into what the next row then writes.
  const fitting = subtract(get("width"), constant(4));
  const tile = [
    set("first", select(get("col"), fitting, less(get("col"), fitting))),
    set("first", select(constant(0), get("first"), less(get("first"), constant(0)))),
    set("base", from(from(get("x"), "row", "xRow"), "first", "xPixel")),
    ...pixels.flatMap((i) => [
      set(`a${2 * i}`, v.load(add(get("bias"), blockBytes), 0)),
      set(`a${2 * i + 1}`, v.load(add(get("bias"), blockBytes), 16)),
    ]),
    set("pw", add(get("w"), times(blockBytes, times(get("taps"), get("K"))))),
    loop(
      "tap", "taps", 1,
      set("p0", from(get("base"), "tap", "xTap")),
      ...[1, 2, 3].map((i) => set(`p${i}`, add(get(`p${i - 1}`), get("xPixel")))),
      loop(
        "k", "K", 2,
        multiplyAdd(0),
        multiplyAdd(1),
        ...pixels.map((i) => set(`p${i}`, add(get(`p${i}`), constant(8)))),
        set("pw", add(get("pw"), constant(64))),
      ),
    ),
    set("base", from(from(add(get("out"), blockBytes), "row", "outRow"), "first", "outPixel")),
    ...pixels.flatMap((i) => [
      v.store(get("base"), get(`a${2 * i}`), 0),
      v.store(get("base"), get(`a${2 * i + 1}`), 16),
      set("base", add(get("base"), get("outPixel"))),
    ]),
  ];
  const tiles = loop("col", "width", 4, ...tile);
  const body = loop("block", "blocks", 1, loop("row", "height", 1, tiles));
  return { type, bytes: code(body) };
}

// activate: SiLU(h) = h/(1 + e^(−h)) of h = x·factor + summand, a factor and a summand for each
// channel; the channels are a multiple of 4, and a pixel's follow on the one's before.
// e^z = 2^n·e^r with n = round(z/ln 2) and |r| ≤ ln(2)/2, where Taylor's sum to r⁶ has float32's
// digits; ln 2 comes off in two parts, of which n times the first is exact.
export const LOG2_E = 1.44269504;
export const LN2 = [0.693359375, -2.12194440e-4];
export const TAYLOR = [1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1, 1];
export const FAR = 87; // e^87 is still a float32

function activate() {
  const { get, set, loop, type, code } = locals(
    ["x", "xRow", "out", "outRow", "factor", "summand", "channelBytes", "width", "height"],
    ["row", "col", "channel", "from", "to"],
    ["h", "z", "n", "e"],
  );
  const value = [
    set("h", v.times(v.load(get("from")), v.load(add(get("factor"), get("channel"))))),
    set("h", v.add(get("h"), v.load(add(get("summand"), get("channel"))))),
    set("z", v.most(v.least(v.negative(get("h")), v.constant(FAR)), v.constant(-FAR))),
    set("n", v.nearest(v.times(get("z"), v.constant(LOG2_E)))),
    ...LN2.map((part) => set("z", v.subtract(get("z"), v.times(get("n"), v.constant(part))))),
    set("e", v.constant(TAYLOR[0])),
    ...TAYLOR.slice(1).map((c) => set("e", v.add(v.times(get("e"), get("z")), v.constant(c)))),
    // 2^n: n + 127 at the place of the exponent
    set("n", v.shiftedLeft(v.addIntegers(v.truncated(get("n")), v.integers(127)), 23)),
    set("e", v.add(v.times(get("e"), get("n")), v.constant(1))),
    v.store(get("to"), v.over(get("h"), get("e"))),
    set("from", add(get("from"), constant(16))),
    set("to", add(get("to"), constant(16))),
  ];
  const body = loop(
    "row", "height", 1,
    set("from", add(get("x"), times(get("row"), get("xRow")))),
    set("to", add(get("out"), times(get("row"), get("outRow")))),
    loop("col", "width", 1, loop("channel", "channelBytes", 16, ...value)),
  );
  return { type, bytes: code(body) };
}

export function kernelBytes() {
  return assembled({ product: product(), activate: activate() });
}

// Whether this browser knows WebAssembly SIMD.
export function hasSimd() {
  return typeof WebAssembly === "object" && WebAssembly.validate(kernelBytes());
}

// {product, activate} over this memory.
export function kernel(memory) {
  const module = new WebAssembly.Module(kernelBytes());
  return new WebAssembly.Instance(module, { js: { memory } }).exports;
}
