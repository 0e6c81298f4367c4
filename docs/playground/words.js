// What the page says in words: the command that makes a picture, the formula with its numbers.

// A word as a shell takes it.
const quoted = (text) => (/^[\w.,/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// The `python -m guidance …` that draws these start steps in rows, from the same noise.
export function command(state, starts) {
  const flags = [
    ["weights", state.file ? "runs/NAME" : `weights/${state.weights}`],
    ["class", state.class],
    ["negative", state.negative],
    ["w", state.w],
    ["start-step", starts.join(",")],
    ...(state["stop-step"] === null ? [] : [["stop-step", state["stop-step"]]]),
    ["steps", state.steps],
    ...(state.eta ? [["eta", state.eta]] : []),
    ["seed", state.seed],
    ["n", 1],
  ];
  const words = flags.map(([name, value]) => `--${name} ${quoted(String(value))}`);
  return `python -m guidance negative ${words.join(" ")}`;
}

export const minus = (value) => String(value).replace("-", "−");
export const shortNumber = (value) => minus(Math.round(value * 1000) / 1000);
export const percent = (p) => `${p > 0.995 && p < 1 ? ">99" : Math.round(100 * p)} %`;

// NegPrompt Eq. 5 with the numbers of one step.
export function formula({ w, positive, second, t }) {
  const [a, b] = [shortNumber(1 + w), shortNumber(Math.abs(w))];
  const sign = w < 0 ? "+" : "−";
  return `ε̂ = ${a}·ε(x_t, ${t}, ${positive}) ${sign} ${b}·ε(x_t, ${t}, ${second})`;
}

// When p₋ acts, in a sentence.
export function acting(start, stop, steps, name) {
  const end = stop ?? steps;
  if (start >= end) return `p₋ never acts: ∅ stands in its place in all ${steps} steps.`;
  if (start === 0 && end === steps) return `p₋ = ${name} acts in every step.`;
  const when = `in steps ${start} to ${end - 1} of ${steps}`;
  return `p₋ = ${name} acts ${when}; ∅ stands in its place in the others.`;
}
