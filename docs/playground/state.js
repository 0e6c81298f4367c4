// The page's whole state and its URL: #class=4&negative=9&w=2&start-step=5 …
// The keys are the flags of `python -m guidance`; those of the exact world begin with world-.
// What a URL gets wrong is one line that names the key, the value and what is allowed.

import { PRESETS, readGaussians, writeGaussians } from "./worlds.js";

const number = (fallback, least, most, step) => ({ kind: "number", fallback, least, most, step });
const integer = (fallback, least, most) => ({ kind: "integer", fallback, least, most, step: 1 });
const choice = (fallback, choices) => ({ kind: "choice", fallback, choices });

export const SHIPPED = ["digits", "mnist", "scenes"];
export const GUIDANCES = ["none", "classifier-free", "negative", "posterior"];
const W = [-1, 20, 0.25];
const SEEDS = 2 ** 53 - 1; // Python takes more, a JavaScript number does not

// The stop step and the shown step are null for "to the end". The page opens with a 9 that p₋ turns
// into a 5, and that is a 9 again if p₋ starts later than at step 10.
export const OPTIONS = {
  weights: choice("mnist", SHIPPED),
  class: { kind: "label", fallback: "null" },
  negative: { kind: "label", fallback: "9" },
  w: number(2, ...W),
  "start-step": integer(8, 0, 100),
  "stop-step": { ...integer(null, 0, 100), end: true },
  steps: integer(20, 1, 100),
  eta: number(0, 0, 1, 0.05),
  seed: integer(32, 0, SEEDS),
  at: { ...integer(null, 0, 100), end: true },
  threads: { ...integer(null, 1, 16), end: true },
  world: choice("looks", [...Object.keys(PRESETS), "own"]),
  "world-guidance": choice("negative", GUIDANCES),
  "world-w": number(6.5, ...W),
  "world-start-step": integer(0, 0, 100),
  "world-stop-step": { ...integer(10, 0, 100), end: true },
  "world-steps": integer(50, 1, 100),
  "world-eta": number(0, 0, 1, 0.05),
  "world-seed": integer(0, 0, SEEDS),
  "world-at": { ...integer(null, 0, 100), end: true },
  gaussians: { kind: "gaussians", fallback: null },
};

export function defaults() {
  return Object.fromEntries(Object.entries(OPTIONS).map(([key, o]) => [key, o.fallback]));
}

// {state, errors}: what is wrong has its default in the state.
export function parse(hash) {
  const state = defaults();
  const [errors, given] = [[], new Set()];
  const text = hash.includes("=") ? hash.replace(/^#/, "") : ""; // #exact-world is a place
  for (const [key, value] of new URLSearchParams(text)) {
    try {
      if (!Object.hasOwn(OPTIONS, key)) {
        throw new Error(`must have none but known keys, got ${key.slice(0, 40)}`);
      }
      state[key] = read(key, value);
      given.add(key);
    } catch (error) {
      errors.push(`The URL ${error.message}.`);
    }
  }
  if (state.world !== "own") state.gaussians = null;
  if (state.world === "own" && !state.gaussians) {
    state.world = OPTIONS.world.fallback;
    errors.push("The URL must give gaussians=… with world=own.");
  }
  for (const prefix of ["", "world-"]) {
    const moved = settle(state, prefix).filter(({ key }) => given.has(key));
    errors.push(...moved.map(({ line }) => line)); // a default moves in silence
  }
  return { state, errors };
}

function read(key, text) {
  const option = OPTIONS[key];
  const refuse = (allowed) => {
    throw new Error(`must give ${key} as ${allowed}, got ${text.slice(0, 40) || "nothing"}`);
  };
  if (option.kind === "choice") {
    return option.choices.includes(text) ? text : refuse(`one of ${option.choices.join(", ")}`);
  }
  if (option.kind === "label") return text && text.length <= 60 ? text : refuse("a class or null");
  if (option.kind === "gaussians") return readGaussians(text);
  const what = option.kind === "integer" ? "an integer" : "a number";
  const value = /^-?\d+(\.\d+)?(e-\d+)?$/.test(text) ? Number(text) : NaN;
  const right = value >= option.least && value <= option.most;
  if (!right || (option.kind === "integer" && !Number.isInteger(value))) {
    refuse(`${what} in ${option.least}..${option.most}`);
  }
  return value;
}

// Steps that do not fit each other are moved, with a line about each: {key, line}.
export function settle(state, prefix) {
  const errors = [];
  const keys = ["steps", "start-step", "stop-step", "at"];
  const [steps, start, stop, at] = keys.map((key) => prefix + key);
  const move = (key, most, why) => {
    if (state[key] === null || state[key] <= most) return;
    const line = `The URL must give ${key} in 0..${most} (${why}), got ${state[key]}.`;
    errors.push({ key, line });
    state[key] = most;
  };
  for (const key of [start, stop, at]) move(key, state[steps], steps);
  if (state[stop] === state[steps]) state[stop] = null;
  if (state[stop] !== null) move(start, state[stop], stop);
  if (state[at] === state[steps]) state[at] = null;
  return errors;
}

// The hash of this state; what is as by default stays out of it.
export function format(state) {
  const parts = Object.entries(OPTIONS).flatMap(([key, option]) => {
    if (state[key] === option.fallback) return [];
    const end = option.end && state[key] === null; // "to the end", where that is no default
    const value = end ? state[key.replace(/(stop-step|at)$/, "steps")] : state[key];
    const text = option.kind === "gaussians" ? writeGaussians(value) : String(value);
    return [`${key}=${encodeURIComponent(text)}`];
  });
  return parts.length ? `#${parts.join("&")}` : "";
}

// The number of this label in 0..K, K = ∅, as `python -m guidance` reads it.
export function labelOf(key, text, classes) {
  const K = classes.length;
  const found = classes.indexOf(text);
  if (found >= 0) return found;
  if (text === "null" || text === "∅") return K;
  if (/^\d+$/.test(text) && Number(text) <= K) return Number(text);
  const names = classes.slice(0, 20).join(", ");
  throw new Error(`${key} must be among ${names}, or null (∅), got ${text.slice(0, 40)}`);
}
