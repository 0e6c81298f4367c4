// As much of an assembler for WebAssembly as kernel.js needs. Each function gives the bytes of an
// instruction, with its operands' before it, as the specification's text format nests them.

// LEB128, the variable-length numbers of the format: unsigned, and signed for constants.
export function unsigned(n) {
  return n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)];
}
function signed(n) {
  const last = (n >> 6 === 0 && !(n & 64)) || (n >> 6 === -1 && n & 64);
  return last ? [n & 127] : [(n & 127) | 128, ...signed(n >> 7)];
}

// Integers, of 32 bits.
export const constant = (n) => [0x41, ...signed(n)];
export const add = (a, b) => [...a, ...b, 0x6a];
export const subtract = (a, b) => [...a, ...b, 0x6b];
export const times = (a, b) => [...a, ...b, 0x6c];
export const less = (a, b) => [...a, ...b, 0x48]; // signed
export const select = (a, b, condition) => [...a, ...b, ...condition, 0x1b];

// Vectors of four float32. An address is in bytes; offset: to be added to it.
const simd = (code, ...operands) => [...operands.flat(), 0xfd, ...unsigned(code)];
export const v = {
  load: (at, offset = 0) => [...simd(0, at), 0, ...unsigned(offset)],
  splat: (at, offset = 0) => [...simd(9, at), 0, ...unsigned(offset)], // one number four times
  store: (at, value, offset = 0) => [...simd(11, at, value), 0, ...unsigned(offset)],
  constant: (x) => simd(0x13, [0x43, ...new Uint8Array(new Float32Array([x]).buffer)]),
  integers: (n) => simd(0x11, constant(n)),
  negative: (a) => simd(0xe1, a),
  add: (a, b) => simd(0xe4, a, b),
  subtract: (a, b) => simd(0xe5, a, b),
  times: (a, b) => simd(0xe6, a, b),
  over: (a, b) => simd(0xe7, a, b),
  least: (a, b) => simd(0xe8, a, b),
  most: (a, b) => simd(0xe9, a, b),
  nearest: (a) => simd(0x6a, a), // ties to even
  truncated: (a) => simd(0xf8, a), // to integers
  addIntegers: (a, b) => simd(0xae, a, b),
  shiftedLeft: (a, bits) => simd(0xab, a, constant(bits)),
};

// A function's named locals: get, set, and a loop that counts.
export function locals(parameters, integers, vectors) {
  const names = [...parameters, ...integers, ...vectors];
  const index = (name) => unsigned(names.indexOf(name));
  const get = (name) => [0x20, ...index(name)];
  const set = (name, value) => [...value, 0x21, ...index(name)];
  // for (counter = 0; counter < limit; counter += stride): at least once.
  const loop = (counter, limit, stride, ...body) => [
    ...set(counter, constant(0)),
    0x03, 0x40, // loop
    ...body.flat(),
    ...set(counter, add(get(counter), constant(stride))),
    ...less(get(counter), get(limit)),
    0x0d, 0, // br_if: once more
    0x0b, // end
  ];
  const [i32, v128] = [0x7f, 0x7b];
  const type = [0x60, parameters.length, ...parameters.map(() => i32), 0];
  const head = [2, integers.length, i32, vectors.length, v128];
  return { get, set, loop, type, code: (body) => [...head, ...body, 0x0b] };
}

const text = (name) => [name.length, ...new TextEncoder().encode(name)];
const section = (id, count, content) => {
  const bytes = [count, ...content.flat()];
  return [id, ...unsigned(bytes.length), ...bytes];
};

// The module of these functions, {name: {type, bytes}}, over an imported memory "js.memory".
export function assembled(functions) {
  const all = Object.entries(functions);
  const n = all.length;
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // "\0asm", version 1
    ...section(1, n, all.map(([, f]) => f.type)),
    ...section(2, 1, [text("js"), text("memory"), 2, 0, 1]),
    ...section(3, n, all.map((_, i) => i)),
    ...section(7, n, all.map(([name], i) => [...text(name), 0, i])),
    ...section(10, n, all.map(([, f]) => [...unsigned(f.bytes.length), ...f.bytes])),
  ]);
}
