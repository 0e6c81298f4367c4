// The mathematics, stated a second time beside ddpm/ and guidance/, and held to it by
// tests/programs/test_playground.py. The names are theirs, in JavaScript's spelling.

export { Schedule, cosineSchedule, linearSchedule, timesteps, window } from "./schedule.js";
export { ancestral, ddim, predictX0, qPosteriorMean } from "./reverse.js";
export {
  classifierFreeGuidance,
  during,
  extrapolated,
  negativeGuidance,
  posteriorNegativeGuidance,
} from "./guidance.js";
export { GaussianMixture } from "./mixture.js";
