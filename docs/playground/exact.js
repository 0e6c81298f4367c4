// The exact world's computation: from options to every state of every point, in float64.

import {
  GaussianMixture,
  classifierFreeGuidance,
  cosineSchedule,
  ddim,
  negativeGuidance,
  posteriorNegativeGuidance,
  window,
} from "./diffusion.js";
import { Generator, randn, streamSeed } from "./rng.js";

export const N = 300; // points
export const SCHEDULE = cosineSchedule();

// The mixture of these Gaussians, its predictor, and the numbers of p₊ and p₋ in it: ∅ where a
// label is true of none.
export function worldOf(gaussians) {
  const true_ = ["plus", "minus"].filter((kind) => gaussians.some((g) => g[kind]));
  const mixture = new GaussianMixture(
    gaussians.map((g) => [g.x, g.y]),
    gaussians.map((g) => g.variance),
    gaussians.map((g) => g.weight),
    true_.map((kind) => gaussians.map((g) => g[kind])),
  );
  const label = (kind) => (true_.includes(kind) ? true_.indexOf(kind) : mixture.nullToken);
  return { mixture, eps: mixture.eps(SCHEDULE), positive: label("plus"), negative: label("minus") };
}

// The guided predictor while stop < t ≤ start.
export function guided({ mixture, eps, positive, negative }, { guidance, w }, start, stop) {
  const options = { null: mixture.nullToken, start, stop };
  const plain = (x, t) => eps(x, t, positive);
  if (guidance === "none") return plain;
  if (guidance === "classifier-free") return classifierFreeGuidance(eps, positive, w, options);
  if (guidance === "negative") return negativeGuidance(eps, positive, negative, w, options);
  if (negative === mixture.nullToken) return plain; // λ·0
  const logProb = (x, t) => mixture.logPosterior(SCHEDULE, x, t, negative);
  return posteriorNegativeGuidance(eps, logProb, negative, { ...options, positive });
}

// {states: x_T and each state after it, eps: the predictor}; n points.
export function unfoldWorld(world, options, n = N) {
  const { steps, eta, seed } = options;
  const [start, stop] = window(SCHEDULE.T, steps, options.start, options.stop ?? steps);
  const predictor = guided(world, options, start, stop);
  const x_T = randn(2 * n, new Generator(seed), Float64Array);
  const stream = new Generator(streamSeed(seed, 1));
  const noise = () => randn(2 * n, stream, Float64Array);
  const run = ddim(SCHEDULE, predictor, x_T, steps, { clip: null, eta, noise });
  return { states: [x_T, ...[...run].map((step) => step.x)], eps: predictor };
}

// Whether each point is of this label: more likely than not. ∅ is true of all, which says nothing.
export function has({ mixture }, x_0, label) {
  if (label === mixture.nullToken) return Array(x_0.length / 2).fill(false);
  return Array.from(mixture.logPosterior(SCHEDULE, x_0, 0, label), (log) => log > Math.log(0.5));
}

// How many points have p₋ and p₊, without and with the guidance, and how many gained or lost p₋.
export function counts(world, plain, with_) {
  const [was, now] = [has(world, plain, world.negative), has(world, with_, world.negative)];
  const sum = (list) => list.filter(Boolean).length;
  return {
    without: sum(was),
    with: sum(now),
    gained: sum(now.map((v, i) => v && !was[i])),
    lost: sum(now.map((v, i) => !v && was[i])),
    plusWithout: sum(has(world, plain, world.positive)),
    plusWith: sum(has(world, with_, world.positive)),
  };
}
