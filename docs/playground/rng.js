// torch's CPU generator, so that a seed on the page is the seed of `python -m guidance --seed`.
// Mersenne twister (Matsumoto, Nishimura 1998), then Box–Muller in the order in which torch fills.

const N = 624;
const M = 397;

export class Generator {
  // seed: a number or BigInt; torch keeps its lowest 32 bits.
  constructor(seed) {
    this.state = new Uint32Array(N);
    this.state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let i = 1; i < N; i++) {
      const previous = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, previous) + i;
    }
    this.next = N;
    this.spare = null; // the second of a pair of normal numbers
  }

  twist() {
    const s = this.state;
    for (let i = 0; i < N; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % N] & 0x7fffffff);
      s[i] = s[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  // 32 random bits.
  random() {
    if (this.next === N) this.twist();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  // In [0, 1): 24 bits, as a float32 holds them.
  uniform() {
    return (this.random() & 0xffffff) / 2 ** 24;
  }

  // In [0, 1): 53 bits of two draws, the upper half first.
  uniform64() {
    const high = this.random() & 0x1fffff;
    return (high * 2 ** 32 + this.random()) / 2 ** 53;
  }
}

// n numbers of N(0, 1), as torch.randn(n, generator=…) draws them in this type.
// From 16 on torch fills blocks of 16, of which the last one overlaps; below, one after another.
export function randn(n, generator, Type = Float32Array) {
  const values = new Type(n);
  if (n < 16) {
    for (let i = 0; i < n; i++) values[i] = normal(generator);
    return values;
  }
  const uniform = () => (Type === Float32Array ? generator.uniform() : generator.uniform64());
  for (let i = 0; i < n; i++) values[i] = uniform();
  for (let i = 0; i + 16 <= n; i += 16) boxMuller16(values, i);
  if (n % 16) {
    for (let i = n - 16; i < n; i++) values[i] = uniform();
    boxMuller16(values, n - 16);
  }
  return values;
}

// √(−2·ln(1 − u₁))·(cos 2πu₂, sin 2πu₂), with u₁ in the first eight and u₂ in the last.
function boxMuller16(values, at) {
  for (let j = at; j < at + 8; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
    const theta = 2 * Math.PI * values[j + 8];
    values[j] = radius * Math.cos(theta);
    values[j + 8] = radius * Math.sin(theta);
  }
}

function normal(generator) {
  if (generator.spare !== null) {
    const value = generator.spare;
    generator.spare = null;
    return value;
  }
  const theta = 2 * Math.PI * generator.uniform64();
  const radius = Math.sqrt(-2 * Math.log1p(-generator.uniform64()));
  generator.spare = radius * Math.sin(theta);
  return radius * Math.cos(theta);
}

// The seed of picture i's own noise is streamSeed(seed, i + 1): guidance/app/draw.py.
export function streamSeed(seed, stream) {
  const mixed = BigInt(seed) + BigInt(stream) * 0x9e3779b97f4a7c15n;
  return stream ? mixed % 2n ** 63n : BigInt(seed);
}
