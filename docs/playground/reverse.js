// The reverse process: ddpm/reverse.py once more. DDPM Eq. 15, Alg. 2; DDIM Eq. 12, 16.
// A sampler knows a predictor eps(x_t, t) -> ε̂ and nothing else. Images are flat typed arrays.

import { timesteps } from "./schedule.js";

// x̂_0 = (x_t − √(1 − ᾱ_t)·ε) / √ᾱ_t        DDPM Eq. 15; CFG Eq. 5. Not clipped.
export function predictX0(schedule, x_t, t, eps) {
  const signal = Math.sqrt(schedule.alphaBar[t]);
  const noise = Math.sqrt(1 - schedule.alphaBar[t]);
  return x_t.map((x, i) => (x - noise * eps[i]) / signal);
}

// μ̃_t = √ᾱ_{t−1}·β_t/(1 − ᾱ_t)·x_0 + √α_t·(1 − ᾱ_{t−1})/(1 − ᾱ_t)·x_t        DDPM Eq. 7
export function qPosteriorMean(schedule, x_0, x_t, t) {
  const { alpha, alphaBar, beta } = schedule;
  const fromX0 = (Math.sqrt(alphaBar[t - 1]) * beta[t]) / (1 - alphaBar[t]);
  const fromXt = (Math.sqrt(alpha[t]) * (1 - alphaBar[t - 1])) / (1 - alphaBar[t]);
  return x_t.map((x, i) => fromX0 * x_0[i] + fromXt * x);
}

// x_{t−1} = √ᾱ_{t−1}·x̂_0 + √(1 − ᾱ_{t−1} − σ_t²)·ε + σ_t·z
// σ_t = η·√((1 − ᾱ_{t−1})/(1 − ᾱ_t))·√(1 − ᾱ_t/ᾱ_{t−1})
//
// DDIM Eq. 12, 16, where t−1 stands for the next visited t. Where clip changes x̂_0, ε is what
// leads from it to x_t. steps: a number S, or a decreasing list of t. noise() gives z, one a call.
export function* ddim(schedule, eps, x_T, steps, { clip = [-1, 1], noise = null, eta = 0 } = {}) {
  const visited = [...visits(schedule.T, steps), 0];
  let x = x_T;
  for (let k = 0; k + 1 < visited.length; k++) {
    const [t, s] = [visited[k], visited[k + 1]];
    const [a, b] = [schedule.alphaBar[t], schedule.alphaBar[s]]; // ᾱ_t, ᾱ_{t−1}
    const sigma = eta * Math.sqrt((1 - b) / (1 - a)) * Math.sqrt(1 - a / b);
    const z = eta > 0 && s > 0 ? noise() : null;
    const e = eps(x, t);
    const x_0 = clipped(predictX0(schedule, x, t, e), clip);
    const [signal, left] = [Math.sqrt(a), Math.sqrt(1 - a)];
    const along = Math.sqrt(1 - b - sigma ** 2);
    x = x.map((value, i) => {
      const direction = clip === null ? e[i] : (value - signal * x_0[i]) / left;
      return Math.sqrt(b) * x_0[i] + along * direction + (z ? sigma * z[i] : 0);
    });
    yield { t, x, eps: e, x_0 };
  }
}

// x_{t−1} ~ N(μ̃_t(x̂_0, x_t), σ_t²·I),  σ_t² = β_t ("beta") or β̃_t ("posterior")
// DDPM Alg. 2; CFG Eq. 4 with v = 1 or 0; no noise at the last update.
export function* ancestral(
  schedule,
  eps,
  x_T,
  steps,
  { clip = [-1, 1], noise, variance = "beta" } = {},
) {
  const visited = visits(schedule.T, steps);
  const sub = schedule.subsequence(visited); // its entry i is the visited t_i
  const sigmaSquared = variance === "beta" ? sub.beta : sub.posteriorVariance;
  let x = x_T;
  for (let k = 0; k < visited.length; k++) {
    const i = visited.length - k;
    const z = i > 1 ? noise() : null;
    const e = eps(x, visited[k]);
    const x_0 = clipped(predictX0(sub, x, i, e), clip);
    const sigma = Math.sqrt(sigmaSquared[i]);
    x = qPosteriorMean(sub, x_0, x, i).map((mean, j) => mean + (z ? sigma * z[j] : 0));
    yield { t: visited[k], x, eps: e, x_0 };
  }
}

function visits(T, steps) {
  return typeof steps === "number" ? timesteps(T, steps) : steps;
}

function clipped(x_0, clip) {
  return clip === null ? x_0 : x_0.map((v) => Math.min(Math.max(v, clip[0]), clip[1]));
}
