// The kernel's plain twin: what kernel.js says in bytes, in JavaScript, rounded at the same places.
// The test holds the two together bit for bit; without WebAssembly SIMD it does the work.

import { FAR, LN2, LOG2_E, TAYLOR } from "./kernel.js";

const { fround } = Math;

// {product, activate} over this memory; the arguments are the kernel's.
export function twin(memory) {
  const over = (f) => (...all) => f(new Float32Array(memory.buffer), ...all);
  return { product: over(product), activate: over(activate) };
}

function product(
  f, x, xPixel, xRow, xTap, taps, K, w, bias, out, outPixel, outRow, width, height, blocks,
) {
  const sums = new Float32Array(8);
  for (let row = 0; row < height; row++) {
    for (let col = 0; col < width; col++) {
      for (let block = 0; block < blocks; block++) {
        for (let j = 0; j < 8; j++) sums[j] = f[bias / 4 + 8 * block + j];
        let pw = w / 4 + 8 * block * taps * K;
        for (let tap = 0; tap < taps; tap++) {
          const at = (x + row * xRow + col * xPixel + tap * xTap) / 4;
          for (let k = 0; k < K; k++, pw += 8) {
            const value = f[at + k];
            for (let j = 0; j < 8; j++) sums[j] = fround(sums[j] + fround(value * f[pw + j]));
          }
        }
        f.set(sums, (out + row * outRow + col * outPixel) / 4 + 8 * block);
      }
    }
  }
}

function activate(f, x, xRow, out, outRow, factor, summand, channelBytes, width, height) {
  const channels = channelBytes / 4;
  for (let row = 0; row < height; row++) {
    let [from, to] = [(x + row * xRow) / 4, (out + row * outRow) / 4];
    for (let col = 0; col < width; col++) {
      for (let c = 0; c < channels; c++) {
        const h = fround(fround(f[from++] * f[factor / 4 + c]) + f[summand / 4 + c]);
        f[to++] = fround(h / fround(exp(-h) + 1));
      }
    }
  }
}

function exp(z) {
  let r = Math.max(Math.min(z, FAR), -FAR);
  const n = nearest(fround(r * fround(LOG2_E)));
  for (const part of LN2) r = fround(r - fround(n * fround(part)));
  let e = fround(TAYLOR[0]);
  for (const c of TAYLOR.slice(1)) e = fround(fround(e * r) + fround(c));
  return fround(e * 2 ** n);
}

// Ties to even, as the machine rounds.
function nearest(x) {
  const n = Math.round(x);
  return n - x === 0.5 && n % 2 ? n - 1 : n;
}
