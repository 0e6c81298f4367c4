// One run of the sampler, as the page and its tests want it: options in, every state out.

import { ddim, during, negativeGuidance, timesteps, window } from "./diffusion.js";
import { Generator, randn, streamSeed } from "./rng.js";

// x_T of the only picture of a seed: `python -m guidance --seed SEED --n 1`.
export function noise(seed, n) {
  return randn(n, new Generator(seed));
}

// What stands at ε's second place in each step: p₋ in the window, ∅ before and after.
export function tokens({ T, steps, start, stop, negative, nullToken }) {
  const [first, last] = window(T, steps, start, stop);
  return timesteps(T, steps).map((t) => (during(first, last, t) ? negative : nullToken));
}

// The steps from..S of a run whose state at step `from` is x, with these options:
// eps(x_t, t, c), schedule, nullToken, positive, negative, w, start, stop, steps, eta, seed.
export function* unfold(x, from, options) {
  const { eps, schedule, nullToken, positive, negative, w, steps, eta, seed } = options;
  const [start, stop] = window(schedule.T, steps, options.start, options.stop);
  const guided = negativeGuidance(eps, positive, negative, w, { null: nullToken, start, stop });
  const stream = new Generator(streamSeed(seed, 1)); // of what the sampler adds to picture 0
  const z = () => randn(x.length, stream);
  if (eta > 0) for (let k = 0; k < from; k++) z();
  yield* ddim(schedule, guided, x, timesteps(schedule.T, steps).slice(from), { eta, noise: z });
}
