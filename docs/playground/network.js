// The section of the trained network: which runs are wanted, and what of them is shown.

import { measured } from "./measured.js";
import { NetworkView } from "./network-view.js";
import { Runs } from "./runs.js";
import { labelOf } from "./state.js";
import { shipped, dropped } from "./weights.js";

const STRIP = 11; // pictures in the strip, at most

export class Network {
  // say: shows a line, or none.
  constructor(store, threads, say) {
    this.store = store;
    this.say = say;
    this.version = 0;
    this.weights = null;
    this.times = {}; // what the page measures of itself, in ms, for its tests
    this.runs = new Runs(threads, () => this.draw(), say);
    this.view = new NetworkView(store, (files) => this.open(files));
    store.listen((state, changed) => {
      if ((changed.has("weights") || changed.has("file")) && !state.file) this.load();
      else this.update(changed);
    });
    this.load();
  }

  // The weights that the state names.
  async load() {
    const version = ++this.version;
    const { weights } = this.store.state;
    this.view.busy(`reading weights/${weights} …`);
    try {
      const found = await shipped(weights);
      if (version === this.version) this.take(found);
    } catch (error) {
      if (version === this.version) this.say(error.message);
    }
  }

  // Files that were dropped or chosen. What is wrong with them leaves the page as it was.
  async open(files) {
    try {
      const found = await dropped(files);
      this.version++;
      this.weights = null; // nothing is drawn in between
      this.store.set({ file: found.name });
      this.take(found);
    } catch (error) {
      this.say(error.message);
    }
  }

  take(weights) {
    this.first = this.version === 1; // their labels are the URL's; later ones' may not fit
    if (!this.first) this.say("");
    this.weights = weights;
    this.runs.load({
      version: this.version,
      info: {
        T: weights.schedule.T,
        nullToken: weights.nullToken,
        size: weights.size ** 2 * weights.channels,
      },
      unet: weights.unet,
      judge: weights.judge,
    });
    this.update(new Set(["weights"]));
  }

  // The labels as numbers. What these weights do not know is set to what they do, and said if it
  // came from the URL.
  labels(state) {
    const { classes } = this.weights;
    const found = {};
    for (const key of ["class", "negative"]) {
      try {
        found[key] = labelOf(key, state[key], classes);
      } catch (error) {
        if (this.first) this.say(...this.store.errors, error.message);
        this.store.set({ [key]: key === "class" ? "null" : classes.at(-1) });
        return null;
      }
    }
    return { positive: found.class, negative: found.negative };
  }

  update(changed) {
    const { store, weights } = this;
    if (!weights) return;
    if (store.state.steps > weights.schedule.T) return store.set({ steps: weights.schedule.T });
    const labels = this.labels(store.state);
    if (!labels) return; // the store has called again
    this.labelled = labels;
    this.first = true;
    if ([...changed].some((key) => !key.startsWith("world") && key !== "at")) this.want();
    this.showMeasured();
    this.draw();
  }

  want() {
    const { state } = this.store;
    const end = state["stop-step"] ?? state.steps;
    const start = state["start-step"];
    this.strip = stripOf(end);
    const others = this.strip.filter((k) => k !== start && k !== end);
    others.sort((a, b) => Math.abs(a - start) - Math.abs(b - start));
    const { w, steps, eta, seed } = state;
    this.begin = performance.now();
    this.times = {};
    this.runs.want({ ...this.labelled, w, stop: end, steps, eta, seed }, [start, end, ...others]);
  }

  async showMeasured() {
    const key = JSON.stringify([this.store.state.weights, this.store.state.file, this.labelled]);
    if (key === this.measuredKey) return;
    this.measuredKey = key;
    this.curves = null;
    if (this.store.state.file) return;
    const { classes, nullToken } = this.weights;
    const labels = { ...this.labelled, classes, nullToken };
    const found = await measured(this.store.state.weights, labels);
    if (key !== this.measuredKey) return;
    this.curves = found;
    this.draw();
  }

  // Once for all that has happened since the last frame.
  draw() {
    if (this.asked || !this.weights || !this.strip) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      if (!this.weights) return; // others are on their way
      const { state } = this.store;
      const end = state["stop-step"] ?? state.steps;
      const [plain, chosen] = [this.runs.get(end), this.runs.get(state["start-step"])];
      const strip = this.strip.map((k) => ({ start: k, run: this.runs.get(k) }));
      const looked = this.runs.lookedAt(this.labelled.negative);
      const { weights, labelled, curves, runs } = this;
      this.measure(chosen, strip, state.steps);
      const shown = { state, weights, labelled, curves, end, plain, chosen, strip, looked };
      this.view.draw({ ...shown, x_T: runs.x_T });
    });
  }

  measure(chosen, strip, steps) {
    const now = performance.now() - this.begin;
    if (chosen.length === steps) this.times.chosen ??= now;
    const whole = this.times.chosen && strip.every(({ run }) => run.length === steps);
    if (whole) this.times.all ??= now;
  }
}

// Start steps from 0 to `end`, which is never, evenly spread.
export function stripOf(end) {
  const n = Math.min(STRIP, end + 1);
  return Array.from({ length: n }, (_, i) => Math.round((i * end) / Math.max(1, n - 1)));
}
