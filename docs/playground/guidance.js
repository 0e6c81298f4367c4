// Guidance turns predictors into a predictor: guidance/*.py once more.
// A conditional predictor is eps(x_t, t, c) -> ε̂ with c in 0..K, and K = ∅.

// ε̃(x_t, t) = (1 + w)·ε_θ(x_t, t, c) − w·ε_θ(x_t, t, ∅)  while stop < t ≤ start,
// with w = 0 at every other t.        CFG Eq. 6, Alg. 2; NegPrompt Eq. 4
export function classifierFreeGuidance(eps, c, w, { null: none, start = Infinity, stop = 0 }) {
  return (x_t, t) => {
    const epsC = eps(x_t, t, c);
    if (!during(start, stop, t)) return epsC;
    return extrapolated(epsC, eps(x_t, t, none), w);
  };
}

// ε̂(x_t, t) = (1 + w)·ε_θ(x_t, t, p₊) − w·ε_θ(x_t, t, p₋)  while stop < t ≤ start,
// with ∅ in the place of p₋ at every other t.        NegPrompt Eq. 5
export function negativeGuidance(
  eps,
  positive,
  negative,
  w,
  { null: none, start = Infinity, stop = 0 },
) {
  return (x_t, t) => {
    const token = during(start, stop, t) ? negative : none;
    return extrapolated(eps(x_t, t, positive), eps(x_t, t, token), w);
  };
}

// ε̂(x_t, t) = ε_θ(x_t, t, p₊) − λ·(ε_θ(x_t, t, c₋) − ε_θ(x_t, t, ∅)),  λ = λ_0·p/(1 − p),
// p = p(c₋|x_t), while stop < t ≤ start, with λ = 0 at every other t.        DNG Eq. 10
// p₊ is ∅ in the paper. logProb(x_t, t) gives log p for each of the B points of x_t. p is capped at
// pMax, as a p near 1 has no useful λ.
export function posteriorNegativeGuidance(
  eps,
  logProb,
  negative,
  { null: none, positive = none, scale = 1, pMax = 0.99, start = Infinity, stop = 0 },
) {
  return (x_t, t) => {
    const epsP = eps(x_t, t, positive);
    if (!during(start, stop, t)) return epsP;
    const [epsN, epsNull] = [eps(x_t, t, negative), eps(x_t, t, none)];
    const lambda = logProb(x_t, t).map((log) => {
      const p = Math.min(Math.exp(log), pMax);
      return (scale * p) / (1 - p);
    });
    const D = x_t.length / lambda.length;
    return epsP.map((e, i) => e - lambda[Math.floor(i / D)] * (epsN[i] - epsNull[i]));
  };
}

// Whether stop < t ≤ start: both are values of t.
export function during(start, stop, t) {
  return stop < t && t <= start;
}

// (1 + w)·ε(towards) − w·ε(away)
export function extrapolated(towards, away, w) {
  return towards.map((e, i) => (1 + w) * e - w * away[i]);
}
