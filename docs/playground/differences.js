// What p₊ and p₋ add to ∅: ε₊ − ε_∅ and ε₋ − ε_∅ as pictures, and their norms over the steps.

import { chart } from "./chart.js";
import { element, rich } from "./controls.js";
import { difference, drawNothing, drawSigned } from "./pictures.js";

const MEASURED = "Thin and dotted: the mean of 90 pictures, as docs/results.md has it.";
const NAMES = { plus: "ε₊ − ε_∅", minus: "ε₋ − ε_∅" };

export class Differences {
  constructor(node) {
    this.pictures = Object.entries(NAMES).map(([kind, name]) => {
      const canvas = element("canvas", { role: "img" });
      const caption = element("figcaption");
      return { kind, name, canvas, caption, node: element("figure", {}, canvas, caption) };
    });
    this.svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.caption = element("figcaption");
    node.append(
      ...this.pictures.map((picture) => picture.node),
      element("figure", { class: "norms" }, this.svg, this.caption),
    );
  }

  saying(found, name, t) {
    if (!found) return name;
    if (!found.most) return `${name} = 0, as it is ∅ itself`;
    return `${name}, t = ${t}, norm ${found.norm.toPrecision(2)}`;
  }

  // At step k of the run without p₋. looked: ε₋ of each of its states; curves: the measured ones.
  draw({ state, weights, labelled, plain, looked, curves }, k) {
    const { nullToken, schedule } = weights;
    const visited = (i) => Math.floor((schedule.T * (state.steps - i)) / state.steps);
    const none = plain.map(({ said }) => said.get(nullToken));
    const rows = {
      plus: plain.map(({ said }, i) => difference(said.get(labelled.positive), none[i])),
      minus: looked.map((eps, i) => difference(eps, none[i])),
    };
    const scale = Math.max(rows.plus[k]?.most ?? 0, rows.minus[k]?.most ?? 0);
    const series = [];
    for (const { kind, name, canvas, caption } of this.pictures) {
      const row = rows[kind];
      if (row[k]) drawSigned(canvas, row[k].values, weights, scale);
      else drawNothing(canvas, weights);
      const text = this.saying(row[k], name, visited(k));
      caption.replaceChildren(...rich(text));
      canvas.setAttribute("aria-label", text);
      series.push({ name: `‖${name}‖`, kind, points: row.map((d, j) => [visited(j), d.norm]) });
    }
    if (curves) {
      series.unshift({ kind: "minus measured", points: curves.minus });
      series.unshift({ kind: "plus measured", points: curves.plus });
    }
    const measured = curves ? MEASURED : "";
    const label = `How strongly p₊ and p₋ pull over the steps. ${measured}`;
    chart(this.svg, { series, T: schedule.T, now: visited(k), label });
    this.caption.textContent = measured;
  }
}
