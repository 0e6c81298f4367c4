// A Gaussian mixture whose noise predictor ε* is known exactly: ddpm/mixture.py once more, for
// Gaussians of one variance each. Points are flat float64: B points of D numbers.

// p(x_0) = Σ_m π_m·N(x_0; μ_m, v_m·I), and concepts: which of the Gaussians a label is true of.
// Noising keeps it a mixture: p_t(x_t|m) = N(√ᾱ_t·μ_m, (ᾱ_t·v_m + 1 − ᾱ_t)·I).        DDPM Eq. 4
export class GaussianMixture {
  // mean: M lists of D; variance, weight: M; concepts: K lists of M booleans, by default a class
  // for each Gaussian. ∅ = K is all of them.
  constructor(mean, variance, weight = mean.map(() => 1), concepts = null) {
    this.mean = mean;
    this.variance = variance;
    this.D = mean[0].length;
    this.concepts = concepts ?? mean.map((_, k) => mean.map((_, m) => m === k));
    this.nullToken = this.concepts.length;
    if (!variance.every((v) => v > 0) || !weight.every((p) => p > 0)) {
      throw new Error("variance and weight must be positive for every Gaussian");
    }
    // log p(m|k), −∞ where k is not true of m; the last row is ∅'s: (K+1, M)
    this.logWeightGiven = [...this.concepts, mean.map(() => true)].map((row) => {
      const total = weight.reduce((sum, p, m) => sum + (row[m] ? p : 0), 0);
      return weight.map((p, m) => (row[m] ? Math.log(p / total) : -Infinity));
    });
  }

  // log p_t(x_t, m|c) of point b, written to `into` (M,).
  logJoint(schedule, x_t, b, t, c, into) {
    const a = schedule.alphaBar[t];
    const signal = Math.sqrt(a);
    const D = this.D;
    for (let m = 0; m < into.length; m++) {
      const v = a * this.variance[m] + 1 - a;
      let square = 0;
      for (let d = 0; d < D; d++) square += (x_t[b * D + d] - signal * this.mean[m][d]) ** 2;
      const logP = -0.5 * (square / v + D * Math.log(2 * Math.PI * v));
      into[m] = this.logWeightGiven[c][m] + logP;
    }
    return into;
  }

  // log p_t(x_t), or log p_t(x_t|c), of each point: (B,).
  logProb(schedule, x_t, t, c = this.nullToken) {
    const joint = new Float64Array(this.mean.length);
    return Float64Array.from({ length: x_t.length / this.D }, (_, b) =>
      logSumExp(this.logJoint(schedule, x_t, b, t, c, joint)),
    );
  }

  // log p_t(k|x_t) of each point, by Bayes' rule: (B,).
  logPosterior(schedule, x_t, t, k) {
    const joint = new Float64Array(this.mean.length);
    return Float64Array.from({ length: x_t.length / this.D }, (_, b) => {
      this.logJoint(schedule, x_t, b, t, this.nullToken, joint);
      const all = logSumExp(joint);
      for (let m = 0; m < joint.length; m++) if (!this.concepts[k][m]) joint[m] = -Infinity;
      return logSumExp(joint) - all;
    });
  }

  // ε*(x_t, t, c) = E[ε|x_t, c] = −√(1 − ᾱ_t)·∇log p_t(x_t|c) = Σ_m p_t(m|x_t, c)·ε*(m)
  // ADM Eq. 11. Returns eps(x_t, t, c = ∅).
  eps(schedule) {
    return (x_t, t, c = this.nullToken) => {
      const a = schedule.alphaBar[t];
      const [signal, sigma] = [Math.sqrt(a), Math.sqrt(1 - a)];
      const joint = new Float64Array(this.mean.length);
      const found = new x_t.constructor(x_t.length);
      for (let b = 0; b < x_t.length / this.D; b++) {
        const all = logSumExp(this.logJoint(schedule, x_t, b, t, c, joint));
        for (let m = 0; m < joint.length; m++) {
          const p = Math.exp(joint[m] - all);
          const scale = (p * sigma) / (a * this.variance[m] + 1 - a);
          for (let d = 0, i = b * this.D; d < this.D; d++, i++) {
            found[i] += scale * (x_t[i] - signal * this.mean[m][d]);
          }
        }
      }
      return found;
    };
  }
}

// Loops, as this is called for every point in every step.
function logSumExp(values) {
  let most = -Infinity;
  for (let m = 0; m < values.length; m++) if (values[m] > most) most = values[m];
  if (most === -Infinity) return most;
  let sum = 0;
  for (let m = 0; m < values.length; m++) sum += Math.exp(values[m] - most);
  return most + Math.log(sum);
}
