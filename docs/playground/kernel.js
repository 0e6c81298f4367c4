// The one hot loop, as a WebAssembly SIMD module that is assembled here, byte by byte.
//
// product(x, …): every output pixel's channels are bias + Σ_tap Σ_k x[tap][k]·w[tap][k], where x
// and the image are (H, W, C), channels last. A 3×3 convolution is three taps (the rows above, at
// and below a pixel) of K = 3·C numbers that lie side by side; a 1×1 convolution, a linear layer
// and the two products of attention are one tap. Weights lie as [block of 8 outputs][tap][k][8].
// The tile is 4 pixels × 8 channels: 8 vectors of sums, that stay in registers over all k.
// K must be even: the inner loop takes two k at a time. `twin.js` says the same in JavaScript.

const PARAMETERS = [
  "x", "xPixel", "xRow", "xTap", // bytes: where x begins, and to the next pixel, row, tap
  "taps", "K", "w", "bias", // w, bias: bytes
  "out", "outPixel", "outRow", // bytes
  "width", "height", "blocks", // output pixels, and its channels/8
]; // prettier-ignore
const INTEGERS = ["block", "row", "col", "tap", "k", "first", "base", "p0", "p1", "p2", "p3", "pw"];
const VECTORS = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "w0", "w1", "v"];
const NAMES = [...PARAMETERS, ...INTEGERS, ...VECTORS];

// LEB128, the variable-length numbers of the format: unsigned, and signed for constants.
function unsigned(n) {
  return n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)];
}
function signed(n) {
  const last = (n >> 6 === 0 && !(n & 64)) || (n >> 6 === -1 && n & 64);
  return last ? [n & 127] : [(n & 127) | 128, ...signed(n >> 7)];
}

// Instructions, as in the specification's text format.
const local = (name) => unsigned(NAMES.indexOf(name));
const get = (name) => [0x20, ...local(name)];
const set = (name, ...value) => [...value.flat(), 0x21, ...local(name)];
const constant = (n) => [0x41, ...signed(n)];
const add = (a, b) => [...a, ...b, 0x6a];
const subtract = (a, b) => [...a, ...b, 0x6b];
const times = (a, b) => [...a, ...b, 0x6c];
const less = (a, b) => [...a, ...b, 0x48]; // signed
const select = (a, b, condition) => [...a, ...b, ...condition, 0x1b];
const load = (at, offset) => [...at, 0xfd, 0, 0, ...unsigned(offset)]; // v128.load
const splat = (at, offset) => [...at, 0xfd, 9, 0, ...unsigned(offset)]; // v128.load32_splat
const store = (at, value, offset) => [...at, ...value, 0xfd, 11, 0, ...unsigned(offset)];
const vectorAdd = (a, b) => [...a, ...b, 0xfd, 0xe4, 1]; // f32x4.add
const vectorTimes = (a, b) => [...a, ...b, 0xfd, 0xe6, 1]; // f32x4.mul

// for (counter = 0; counter < limit; counter += stride): at least once.
const loop = (counter, limit, stride, ...body) => [
  ...set(counter, constant(0)),
  0x03, 0x40, // loop
  ...body.flat(),
  ...set(counter, add(get(counter), constant(stride))),
  ...less(get(counter), get(limit)),
  0x0d, 0, // br_if: once more
  0x0b, // end
]; // prettier-ignore

const PIXELS = [0, 1, 2, 3];

// One k (u = 0) and the next (u = 1): a += x·w for the tile.
const multiplyAdd = (u) => [
  ...set("w0", load(get("pw"), 32 * u)),
  ...set("w1", load(get("pw"), 32 * u + 16)),
  ...PIXELS.flatMap((i) => [
    ...set("v", splat(get(`p${i}`), 4 * u)),
    ...set(`a${2 * i}`, vectorAdd(get(`a${2 * i}`), vectorTimes(get("v"), get("w0")))),
    ...set(`a${2 * i + 1}`, vectorAdd(get(`a${2 * i + 1}`), vectorTimes(get("v"), get("w1")))),
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
  PIXELS.flatMap((i) => [
    ...set(`a${2 * i}`, load(add(get("bias"), blockBytes), 0)),
    ...set(`a${2 * i + 1}`, load(add(get("bias"), blockBytes), 16)),
  ]),
  set("pw", add(get("w"), times(times(get("block"), constant(32)), times(get("taps"), get("K"))))),
  loop(
    "tap", "taps", 1,
    set("p0", from(get("base"), "tap", "xTap")),
    [1, 2, 3].flatMap((i) => set(`p${i}`, add(get(`p${i - 1}`), get("xPixel")))),
    loop(
      "k", "K", 2,
      multiplyAdd(0),
      multiplyAdd(1),
      PIXELS.flatMap((i) => set(`p${i}`, add(get(`p${i}`), constant(8)))),
      set("pw", add(get("pw"), constant(64))),
    ),
  ),
  set("base", from(from(add(get("out"), blockBytes), "row", "outRow"), "first", "outPixel")),
  PIXELS.flatMap((i) => [
    ...store(get("base"), get(`a${2 * i}`), 0),
    ...store(get("base"), get(`a${2 * i + 1}`), 16),
    ...set("base", add(get("base"), get("outPixel"))),
  ]),
]; // prettier-ignore

const body = loop("block", "blocks", 1, loop("row", "height", 1, loop("col", "width", 4, ...tile)));

const text = (name) => [name.length, ...new TextEncoder().encode(name)];
const section = (id, content) => [id, ...unsigned(content.length), ...content];

// The module: a type, an imported memory "js.memory", a function, its export "product", its code.
export function kernelBytes() {
  const [i32, v128] = [0x7f, 0x7b];
  const locals = [2, INTEGERS.length, i32, VECTORS.length, v128];
  const code = [...locals, ...body, 0x0b];
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // "\0asm", version 1
    ...section(1, [1, 0x60, PARAMETERS.length, ...PARAMETERS.map(() => i32), 0]),
    ...section(2, [1, ...text("js"), ...text("memory"), 2, 0, 1]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...text("product"), 0, 0]),
    ...section(10, [1, ...unsigned(code.length), ...code]),
  ]); // prettier-ignore
}

// Whether this browser knows WebAssembly SIMD.
export function hasSimd() {
  return typeof WebAssembly === "object" && WebAssembly.validate(kernelBytes());
}

// product(…) over this memory.
export function kernel(memory) {
  const module = new WebAssembly.Module(kernelBytes());
  return new WebAssembly.Instance(module, { js: { memory } }).exports.product;
}
