// The section of the exact world: its controls, and what is drawn of it.

import { element, rich, scrubber, seedField, select, slider } from "./controls.js";
import { N, SCHEDULE, counts, has, unfoldWorld, worldOf } from "./exact.js";
import { Handles } from "./handles.js";
import { contours, field, paths, points, prepare } from "./plane.js";
import { GUIDANCES } from "./state.js";
import { acting, minus, shortNumber } from "./words.js";
import { PRESETS } from "./worlds.js";

const byId = (id) => document.getElementById(id);
const PATHS = 60;
const TITLES = {
  none: "none",
  "classifier-free": "classifier-free",
  negative: "negative, p₋",
  posterior: "λ = p/(1 − p)",
};
const FORMULAS = {
  none: "ε̂ = ε*(x_t, t, p₊)",
  "classifier-free": "ε̂ = (1 + w)·ε*(x_t, t, p₊) − w·ε*(x_t, t, ∅)",
  negative: "ε̂ = (1 + w)·ε*(x_t, t, p₊) − w·ε*(x_t, t, p₋)",
  posterior: "ε̂ = ε*(p₊) − λ·(ε*(p₋) − ε*(∅)),  λ = p/(1 − p),  p = p(p₋|x_t)",
};

// A preset, as the state has it.
export function presetState(name) {
  const preset = PRESETS[name];
  const options = Object.entries(preset.options).map(([key, value]) => [`world-${key}`, value]);
  return { world: name, gaussians: null, "world-at": null, ...Object.fromEntries(options) };
}

export class World {
  constructor(store) {
    this.store = store;
    const presets = (state) => [
      ...Object.entries(PRESETS).map(([key, preset]) => [key, preset.name]),
      ...(state.world === "own" ? [["own", "your own"]] : []),
    ];
    const change = (name) => (name === "own" ? {} : presetState(name));
    this.parts = [
      select(store, "world", "world", presets, change),
      select(store, "world-guidance", "guidance", () => GUIDANCES.map((g) => [g, TITLES[g]])),
      slider(store, "world-w", "w, the scale", { show: shortNumber }),
      slider(store, "world-start-step", "start step", {
        most: (state) => state["world-stop-step"] ?? state["world-steps"],
      }),
      slider(store, "world-stop-step", "stop step", {
        most: (state) => state["world-steps"],
        show: (value) => (value === null ? "to the end" : String(value)),
      }),
      slider(store, "world-steps", "steps"),
      slider(store, "world-eta", "η, new noise", { show: shortNumber }),
      seedField(store, "world-seed"),
    ];
    this.shown = { contours: true, field: true, paths: true };
    const boxes = Object.entries({ contours: "contours of p_t", field: "−ε̂", paths: "paths" }).map(
      ([key, label]) => this.box(key, label),
    );
    byId("world-controls").append(
      ...this.parts.map((part) => part.node),
      element("div", { class: "boxes", role: "group", "aria-label": "What is drawn" }, ...boxes),
    );
    this.canvas = element("canvas", { role: "img" });
    byId("plane").append(this.canvas);
    this.handles = new Handles(byId("plane"), byId("world-controls"), (gaussians) =>
      this.store.set({ world: "own", gaussians }),
    );
    this.scrub = scrubber(store, "world-", "step shown");
    byId("world-scrubber").append(this.scrub.node);
    byId("world-key").append("Points by their end: ● p₊, ▲ p₋, ■ neither. Circles: Gaussians.");
    store.listen((state, changed) => {
      if ([...changed].some((key) => key.startsWith("world") || key === "gaussians")) this.draw();
    });
    this.showControls(store.state);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    // Below the screen nothing is computed: the network comes first.
    const seen = ([entry]) => {
      this.visible = entry.isIntersecting;
      this.draw();
    };
    new IntersectionObserver(seen, { rootMargin: "200px" }).observe(byId("world-controls").parentNode);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  box(key, label) {
    const input = element("input", { type: "checkbox", checked: true });
    input.addEventListener("change", () => {
      this.shown[key] = input.checked;
      this.draw();
    });
    return element("label", {}, input, " ", ...rich(label));
  }

  draw() {
    if (this.asked || !this.visible) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  // Computed anew only where something that it depends on has changed.
  run(state, gaussians) {
    const option = (key) => state[`world-${key}`];
    const options = Object.fromEntries(
      ["guidance", "w", "steps", "eta", "seed"].map((key) => [key, option(key)]),
    );
    Object.assign(options, { start: option("start-step"), stop: option("stop-step") });
    const key = JSON.stringify([options, gaussians]);
    if (key !== this.key) {
      this.key = key;
      const world = worldOf(gaussians);
      const never = { ...options, start: options.stop ?? options.steps };
      const plain = unfoldWorld(world, never);
      const run = unfoldWorld(world, options);
      const said = counts(world, plain.states.at(-1), run.states.at(-1));
      const ends = [world.positive, world.negative].map((l) => has(world, run.states.at(-1), l));
      this.found = { world, run, said, ends };
    }
    return this.found;
  }

  // What the controls say; and the Gaussians.
  showControls(state) {
    const gaussians = state.gaussians ?? PRESETS[state.world].gaussians;
    for (const part of [...this.parts, this.scrub]) part.update(state);
    this.handles.update(gaussians);
    return gaussians;
  }

  paint() {
    const { state } = this.store;
    const gaussians = this.showControls(state);
    const { world, run, said, ends } = this.run(state, gaussians);
    const steps = state["world-steps"];
    const at = state["world-at"] ?? steps;
    const { T } = SCHEDULE;
    const t = Math.floor((T * (steps - at)) / steps);
    const left = Math.floor((T * (steps - Math.min(at, steps - 1))) / steps); // of the field
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const colours = { plus: colour("plus"), minus: colour("minus"), neither: colour("neither") };
    const kindOf = (b) => (ends[1][b] ? "minus" : ends[0][b] ? "plus" : "neither");
    const plane = prepare(this.canvas);
    const { mixture } = world;
    if (this.shown.field) field(plane, (x) => run.eps(x, left), colour("arrow"));
    const logProb = (x) => mixture.logProb(SCHEDULE, x, t);
    if (this.shown.contours) contours(plane, logProb, colour("contour"));
    if (this.shown.paths) paths(plane, run.states, at, PATHS, (b) => colours[kindOf(b)]);
    points(plane, run.states[at], kindOf, colours);
    this.say(state, said, t);
  }

  say(state, said, t) {
    const [guidance, w, steps] = ["guidance", "w", "steps"].map((key) => state[`world-${key}`]);
    const numbers = ["none", "posterior"].includes(guidance) ? "" : `, w = ${shortNumber(w)}`;
    byId("world-formula").replaceChildren(...rich(FORMULAS[guidance] + numbers));
    const [start, stop] = [state["world-start-step"], state["world-stop-step"]];
    const sentence = acting(start, stop, steps, "the ▲ Gaussians").replace("p₋ never", "It never");
    byId("world-acting").textContent = guidance === "negative" ? sentence : "";
    const what = guidance === "negative" ? "p₋ in its window" : "this guidance in its window";
    const plus = said.plusWith + said.plusWithout;
    const text =
      `Of ${N} points ${said.without} end in p₋ without ${what}, and ${said.with} with it: ` +
      `${said.gained} came to it, ${said.lost} left it.` +
      (plus ? ` In p₊ end ${said.plusWithout} and ${said.plusWith}.` : "");
    byId("world-status").textContent = text;
    byId("world-text").textContent = PRESETS[state.world]?.text ?? "";
    this.canvas.setAttribute("aria-label", `The plane at t = ${minus(t)}. ${text}`);
  }
}
