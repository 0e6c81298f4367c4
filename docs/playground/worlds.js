// Worlds of a few Gaussians in the plane: presets, and their place in the URL.
// plus, minus: whether p₊ and p₋ are true of a Gaussian. A world in which p₊ is true of none asks
// for ∅, any point at all.

const MOST = 8; // Gaussians
const REACH = 4; // of the plane, each way

const at = (x, y, variance, weight, plus, minus) => ({ x, y, variance, weight, plus, minus });

// `looks` is TWO_MODES of train/experiments/exact.py, and `detail` its SMALLER at another scale.
export const PRESETS = {
  looks: {
    name: "p₋ with a rare look",
    gaussians: [
      at(0, 0, 0.05, 0.98, false, false),
      at(1.2, 0, 0.05, 0.019, false, true),
      at(-1.5, 0, 0.05, 0.001, false, true),
    ],
    options: { guidance: "negative", w: 6.5, "start-step": 0, "stop-step": 10, steps: 50 },
    text:
      "p₋ is usually at +1.2 and rarely at −1.5. Ten early steps of p₋ push points to the " +
      "left, over the middle: once p₋ is off, the rare look pulls them in. So p₋ brings out " +
      "what it forbids. With the stop step at the end nothing of it is left; with w = 4 " +
      "nothing comes out.",
  },
  classes: {
    name: "three classes",
    gaussians: [
      at(-0.3, 0.9, 0.12, 1, true, false),
      at(0.9, 0.3, 0.12, 1, false, true),
      at(-0.6, -1.1, 0.12, 1, false, false),
    ],
    options: { guidance: "negative", w: 0.5, "start-step": 0, "stop-step": null, steps: 50 },
    text:
      "Asked for p₊, told to avoid p₋. Try a late start: when has a point made up its mind? " +
      "Then try classifier-free guidance: it pushes away from everything that is not p₊.",
  },
  detail: {
    name: "scene p₊, detail p₋",
    gaussians: [
      at(-1.5, -0.25, 0.02, 0.64, false, false),
      at(-1.5, 0.35, 0.02, 0.16, false, true),
      at(1.5, -0.25, 0.02, 0.16, true, false),
      at(1.5, 0.35, 0.02, 0.04, true, true),
    ],
    options: { guidance: "negative", w: 2, "start-step": 25, "stop-step": null, steps: 50 },
    text:
      "p₊ is decided early, p₋ late: it is the smaller thing. So p₋ may start late and still " +
      "removes what it forbids, and the points stay near to where they were going.",
  },
  removal: {
    name: "remove p₋",
    gaussians: [
      at(-1.2, -0.5, 0.08, 1, false, false),
      at(0, 1.1, 0.08, 1, false, true),
      at(1.2, -0.5, 0.08, 1, false, false),
    ],
    options: { guidance: "posterior", w: 2, "start-step": 0, "stop-step": null, steps: 50 },
    text:
      "λ = p/(1 − p) deletes p₋ exactly and leaves the rest where it is (DNG Eq. 10). Switch " +
      "to the negative class, which pushes with a constant λ = w: it drags the others out of " +
      "their places.",
  },
};

// x,y,variance,weight,LABELS for each, with semicolons between; LABELS is p, m, pm or nothing.
export function writeGaussians(gaussians) {
  const short = (v) => String(Math.round(v * 1e4) / 1e4);
  return gaussians
    .map((g) => {
      const labels = (g.plus ? "p" : "") + (g.minus ? "m" : "");
      return [short(g.x), short(g.y), short(g.variance), short(g.weight), labels].join(",");
    })
    .join(";");
}

export function readGaussians(text) {
  const gaussians = text.split(";").map((part) => {
    const [labels, ...numbers] = part.split(",").reverse();
    const [weight, variance, y, x] = numbers.map((v) => (v.trim() ? Number(v) : NaN));
    const right =
      numbers.length === 4 &&
      Math.abs(x) <= REACH &&
      Math.abs(y) <= REACH &&
      variance >= 0.005 &&
      variance <= 4 &&
      weight >= 0.0005 &&
      weight <= 1000 &&
      /^p?m?$/.test(labels);
    if (!right) {
      throw new Error(
        "must give gaussians as x,y,variance,weight,labels with x, y in -4..4, variance in " +
          `0.005..4, weight in 0.0005..1000 and labels p, m, pm or none, got ${part.slice(0, 40)}`,
      );
    }
    return at(x, y, variance, weight, labels.includes("p"), labels.includes("m"));
  });
  if (gaussians.length > MOST) {
    throw new Error(`must give at most ${MOST} gaussians, got ${gaussians.length}`);
  }
  return gaussians;
}
