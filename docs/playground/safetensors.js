// Weights files as they lie: 8 bytes of length, a JSON header, then the numbers. unet/weights.py.
// Everything that is wrong with a file is an Error with one line that names it.

import { checkArchitecture, shapesOf } from "./architecture.js";

const READERS = { F32: float32, F16: float16, BF16: bfloat16, I64: float64OfIntegers };
const BYTES = { F32: 4, F16: 2, BF16: 2, I64: 8 };

// {info, tensors}: info as `python -m train` wrote it, tensors by name, as Float32Arrays.
// kind: "UNet" or "Judge". Checked: names, shapes and types against the architecture that the
// header names, and that every number is finite.
export function readWeights(buffer, file, kind) {
  const { header, begin } = readHeader(buffer, file);
  const info = readInfo(header.__metadata__, file);
  const name = info?.architecture?.name;
  if (name !== kind) {
    const found = name === undefined ? "no architecture" : `a ${String(name).slice(0, 40)}`;
    throw new Error(`${file} must hold a ${kind} of this project, got ${found}`);
  }
  checkArchitecture(info.architecture, file);
  const { __metadata__, ...entries } = header;
  const expected = shapesOf(info.architecture);
  for (const key of [...new Set([...expected.keys(), ...Object.keys(entries)])].sort()) {
    const found = entries[key]?.shape?.join("×") ?? "missing";
    const wanted = expected.get(key)?.join("×") ?? "absent";
    if (found !== wanted) {
      throw new Error(
        `${file} is of another architecture than its header says: ${key} is ` +
          `${found || "a number"} instead of ${wanted || "a number"}`,
      );
    }
  }
  const tensors = new Map();
  for (const [key, entry] of Object.entries(entries)) {
    tensors.set(key, readTensor(buffer, begin, key, entry, file));
  }
  return { info, tensors };
}

function readHeader(buffer, file) {
  const whole = new Error(`${file} is not a whole safetensors file (${buffer.byteLength} bytes)`);
  if (buffer.byteLength < 8) throw whole;
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length < 2 || length > buffer.byteLength - 8) throw whole;
  try {
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
    if (header === null || typeof header !== "object" || Array.isArray(header)) throw whole;
    return { header, begin: 8 + length };
  } catch {
    throw whole;
  }
}

function readInfo(metadata, file) {
  try {
    return JSON.parse(metadata?.info ?? "null");
  } catch {
    throw new Error(`${file} holds no JSON about its training in its header`);
  }
}

function readTensor(buffer, begin, key, { dtype, shape, data_offsets: offsets }, file) {
  const n = shape.reduce((product, size) => product * size, 1);
  const right = dtype === "I64" ? key.endsWith("num_batches_tracked") : dtype in READERS;
  if (!right) throw new Error(`${file} holds ${key} as ${dtype}, which must be F32, F16 or BF16`);
  const [from, to] = Array.isArray(offsets) ? offsets : [];
  const fits = from >= 0 && to - from === n * BYTES[dtype] && begin + to <= buffer.byteLength;
  if (!fits) throw new Error(`${file} is not a whole safetensors file: ${key} lies outside of it`);
  const bytes = buffer.slice(begin + from, begin + to); // a copy, which is aligned
  const values = READERS[dtype](bytes);
  for (let i = 0; i < n; i++) {
    if (!Number.isFinite(values[i])) {
      throw new Error(`${file} holds values that are not finite, in ${key}`);
    }
  }
  return values;
}

function float32(bytes) {
  return new Float32Array(bytes);
}

// The bits of float32s, from those of halves. A loop: `from` takes twenty times as long.
function widened(bytes, bitsOf) {
  const halves = new Uint16Array(bytes);
  const bits = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) bits[i] = bitsOf(halves[i]);
  return new Float32Array(bits.buffer);
}

// The upper half of a float32.
function bfloat16(bytes) {
  return widened(bytes, (half) => half << 16);
}

// (−1)^sign·2^(e−15)·(1 + m/1024): the exponent moved from 15 to float32's 127. e = 31 is not
// finite. e = 0 is (−1)^sign·2^(−24)·m.
function float16(bytes) {
  const halves = new Uint16Array(bytes);
  const values = widened(bytes, (half) => {
    const sign = (half & 0x8000) << 16;
    if ((half & 0x7c00) === 0x7c00) return sign | 0x7f800000;
    return sign | (((half & 0x7fff) << 13) + (112 << 23));
  });
  for (let i = 0; i < halves.length; i++) {
    const m = halves[i] & 0x7fff;
    if (m < 0x400) values[i] = (halves[i] & 0x8000 ? -1 : 1) * 2 ** -24 * m;
  }
  return values;
}

function float64OfIntegers(bytes) {
  return Float32Array.from(new BigInt64Array(bytes), Number);
}
