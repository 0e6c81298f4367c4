// What the judge sees in a picture, in words and bars.

import { element } from "./controls.js";
import { percent } from "./words.js";

// The labels to be shown: of classes the two likeliest; of concepts what is likelier than not and
// what was asked for or forbidden.
export function shownLabels(verdict, { concepts, asked }) {
  const order = [...verdict.keys()].sort((a, b) => verdict[b] - verdict[a]);
  if (!concepts) return order.slice(0, 2);
  const sure = order.filter((k) => verdict[k] > 0.5);
  const more = asked.filter((k) => k < verdict.length && !sure.includes(k));
  return [...(sure.length ? sure : order.slice(0, 1)), ...more].slice(0, 4);
}

// One line: "9 98 %", or of concepts "3, ring".
export function inWords(verdict, classes, concepts) {
  if (!verdict) return "";
  const [most] = [...verdict.keys()].sort((a, b) => verdict[b] - verdict[a]);
  if (!concepts) return `${classes[most]} ${percent(verdict[most])}`;
  const sure = classes.filter((_, k) => verdict[k] > 0.5);
  return sure.join(", ") || `${classes[most]}?`;
}

// A bar for each label, or a line where there is no judge.
export function bars(verdict, classes, { concepts, positive, negative }) {
  if (!verdict) return [element("span", { class: "none" }, "no judge for these weights")];
  return shownLabels(verdict, { concepts, asked: [positive, negative] }).map((k) => {
    const kind = k === negative ? "minus" : k === positive ? "plus" : "";
    const bar = element("span", { class: `bar ${kind}` });
    bar.style.setProperty("--p", verdict[k]);
    return element(
      "span",
      { class: "verdict-row" },
      element("span", { class: "name" }, classes[k]),
      bar,
      element("span", { class: "percent" }, percent(verdict[k])),
    );
  });
}
