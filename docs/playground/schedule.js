// How much of the image is left at each t: ddpm/schedule.py once more. DDPM Sec. 2; IDDPM.
// Every table has T + 1 entries and its index is the paper's t: entry 0 is clean data.

export class Schedule {
  // β_1 … β_T;  α_t = 1 − β_t,  ᾱ_t = α_1·…·α_t,  β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t)·β_t
  // DDPM Eq. 2, 4, 7.
  constructor(beta) {
    if (!beta.length || !beta.every((b) => b > 0 && b < 1)) {
      throw new Error("beta must be a non-empty list of numbers in (0, 1)");
    }
    let product = 1;
    const alpha = beta.map((b) => 1 - b);
    this.fill(beta, alpha, alpha.map((a) => (product *= a)));
  }

  fill(beta, alpha, alphaBar) {
    this.T = beta.length;
    this.beta = [0, ...beta]; // (T+1,)
    this.alpha = [1, ...alpha]; // (T+1,)
    this.alphaBar = [1, ...alphaBar]; // (T+1,)
    if (!(this.alphaBar[1] < 1 && this.alphaBar[this.T] > 1e-70)) {
      throw new Error("beta must not be so near to 0 or 1 that ᾱ rounds to 1 or 0");
    }
    this.posteriorVariance = this.alphaBar.map((a, t) =>
      t ? ((1 - this.alphaBar[t - 1]) / (1 - a)) * this.beta[t] : 0,
    );
  }

  // The schedule of ᾱ_1 … ᾱ_T: α_t = ᾱ_t/ᾱ_{t−1}, β_t = 1 − α_t.
  static fromAlphaBar(alphaBar) {
    if (!alphaBar.every((a, i) => a > 0 && a < (i ? alphaBar[i - 1] : 1))) {
      throw new Error("alpha_bar must fall from below 1 and stay above 0");
    }
    const alpha = alphaBar.map((a, i) => a / (i ? alphaBar[i - 1] : 1));
    const beta = alpha.map((a) => Math.min(1 - a, 1 - 1e-15));
    const schedule = new Schedule(beta);
    schedule.fill(beta, alpha, alphaBar);
    return schedule;
  }

  // The schedule that a weights file names.
  static fromInfo(info) {
    const { name, T, beta_1, beta_T, s, beta, alpha_bar } = info ?? {};
    if (name === "linear") return linearSchedule(T, beta_1, beta_T);
    if (name === "cosine") return cosineSchedule(T, s);
    if (name === "table" && Array.isArray(beta)) return new Schedule(beta);
    if (name === "alpha_bar" && Array.isArray(alpha_bar)) return Schedule.fromAlphaBar(alpha_bar);
    throw new Error(`schedule must be linear, cosine, table or alpha_bar, got ${name}`);
  }

  // The schedule of a sampler that visits only these t. Its entry i is the i-th smallest of them,
  // and β_i = 1 − ᾱ_{τ_i}/ᾱ_{τ_{i−1}}, never the β_t of a single step. DDIM Sec. 4.2.
  subsequence(steps) {
    return Schedule.fromAlphaBar([...steps].reverse().map((t) => this.alphaBar[t]));
  }
}

// β_t rises linearly from β_1 to β_T. DDPM Sec. 4.
export function linearSchedule(T = 1000, beta1 = 1e-4, betaT = 0.02) {
  count("T", T);
  const stride = T > 1 ? (betaT - beta1) / (T - 1) : 0;
  return new Schedule(Array.from({ length: T }, (_, i) => beta1 + stride * i));
}

// ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s)·π/2), β_t = min(1 − ᾱ_t/ᾱ_{t−1}, 0.999).
// IDDPM Sec. 3.2.
export function cosineSchedule(T = 1000, s = 0.008) {
  count("T", T);
  const f = (t) => Math.cos(((t / T + s) / (1 + s)) * (Math.PI / 2)) ** 2;
  return new Schedule(
    Array.from({ length: T }, (_, i) => Math.min(1 - f(i + 1) / f(i), 0.999)),
  );
}

// The S values of t that a sampler visits: strictly decreasing from T, the last at least 1.
export function timesteps(T, S) {
  count("T", T);
  if (!Number.isInteger(S) || S < 1 || S > T) {
    throw new Error(`S must be an integer in 1..${T} (T), got ${S}`);
  }
  return Array.from({ length: S }, (_, k) => Math.floor((T * (S - k)) / S));
}

// (start, stop) of `negativeGuidance`, as values of t, from steps in 0..S: guidance/app/draw.py.
export function window(T, S, startStep, stopStep = S) {
  const visited = [...timesteps(T, S), 0];
  if (!(startStep >= 0 && startStep <= stopStep && stopStep <= S)) {
    throw new Error(`start step and stop step must rise in 0..${S}, got ${startStep}, ${stopStep}`);
  }
  return [visited[startStep], visited[stopStep]];
}

function count(name, value) {
  if (!Number.isInteger(value) || value < 1 || value > 1e6) {
    throw new Error(`${name} must be an integer in 1..1000000, got ${value}`);
  }
}
