// The kernel's plain twin: what kernel.js says in bytes, in JavaScript, rounded at the same places.
// The test holds the two together bit for bit; without WebAssembly SIMD it does the work.

const { fround } = Math;

// product(…) over this memory; the arguments are the kernel's.
export function twin(memory) {
  return (x, xPixel, xRow, xTap, taps, K, w, bias, out, outPixel, outRow, width, height, blocks) => {
    const f = new Float32Array(memory.buffer);
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
  };
}
