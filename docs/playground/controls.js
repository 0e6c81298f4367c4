// The parts that controls are made of. Each gives an update(state), and tells the store.

import { OPTIONS } from "./state.js";
import { minus } from "./words.js";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (typeof value === "boolean") made.toggleAttribute(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Text with what stands behind an underscore below the line: x_t, ε_∅.
export function rich(text) {
  return text.split(/_(.)/u).map((part, i) => (i % 2 ? element("sub", {}, part) : part));
}

// A range with its value beside it. most(state): its end, where that depends on other options.
export function slider(store, key, label, { most, show = minus, hint = "" } = {}) {
  const option = OPTIONS[key];
  const input = element("input", { type: "range", id: key, step: option.step });
  const output = element("output", { for: key });
  input.addEventListener("input", () => {
    const value = Number(input.value);
    const end = option.end && value === Number(input.max);
    store.set({ [key]: end ? null : value });
  });
  const name = element("label", { for: key }, ...rich(label));
  if (hint) name.title = hint;
  const update = (state) => {
    input.min = option.least;
    const usual = key.endsWith("w") ? Math.max(10, state[key]) : option.most;
    input.max = most ? most(state) : usual;
    input.value = state[key] ?? input.max;
    const text = show(state[key], state);
    output.value = text;
    input.setAttribute("aria-valuetext", text);
  };
  return { node: element("div", { class: "control" }, name, output, input), update };
}

// choices(state): pairs of value and text. changes(value): what is set, by default the key alone.
export function select(store, key, label, choices, changes = (value) => ({ [key]: value })) {
  const input = element("select", { id: key });
  input.addEventListener("change", () => store.set(changes(input.value)));
  let shown = "";
  const update = (state) => {
    const pairs = choices(state);
    if (shown !== JSON.stringify(pairs)) {
      shown = JSON.stringify(pairs);
      input.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
    }
    input.value = state[key];
  };
  return {
    node: element("div", { class: "control" }, element("label", { for: key }, label), input),
    update,
  };
}

// A number with a button for another one.
export function seedField(store, key) {
  const kind = { type: "number", min: 0, step: 1, inputmode: "numeric" };
  const input = element("input", { id: key, ...kind });
  input.addEventListener("change", () => {
    const value = Number(input.value);
    const right = Number.isInteger(value) && value >= 0 && value <= OPTIONS[key].most;
    if (right && input.value) store.set({ [key]: value });
    else input.value = store.state[key];
  });
  const next = element(
    "button",
    { type: "button", onclick: () => store.set({ [key]: store.state[key] + 1 }) },
    "next",
  );
  next.setAttribute("aria-label", "Next seed");
  const label = element("label", { for: key }, "seed");
  return {
    node: element("div", { class: "control seed" }, label, input, next),
    update: (state) => (input.value = state[key]),
  };
}

// Through the steps of a run, with a button that plays them.
export function scrubber(store, prefix, label) {
  const key = `${prefix}at`;
  const bar = slider(store, key, label, {
    most: (state) => state[`${prefix}steps`],
    show: (value, state) => `${value ?? state[`${prefix}steps`]} of ${state[`${prefix}steps`]}`,
  });
  let timer = null;
  const button = element("button", { type: "button", class: "play" }, "▶ play");
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "▶ play";
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    let at = 0;
    const steps = store.state[`${prefix}steps`];
    button.textContent = "■ stop";
    timer = setInterval(() => {
      store.set({ [key]: at >= steps ? null : at });
      if (at++ >= store.state[`${prefix}steps`]) stop();
    }, Math.max(40, 2500 / steps));
  });
  return { node: element("div", { class: "scrub" }, button, bar.node), update: bar.update };
}
