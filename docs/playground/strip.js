// The strip: the same noise with p₋ from a later and later step, each a button.

import { element } from "./controls.js";
import { drawImage, drawNothing } from "./pictures.js";
import { inWords } from "./verdict.js";

export class Strip {
  // choose(start): a start step was clicked.
  constructor(node, choose) {
    Object.assign(this, { node, choose, tiles: [] });
  }

  tile() {
    const [canvas, name, verdict] = ["canvas", "span", "span"].map((tag) => element(tag));
    verdict.className = "said";
    const node = element("button", { type: "button" }, canvas, name, verdict);
    node.addEventListener("click", () => this.choose(Number(node.value)));
    return { node, canvas, name, verdict };
  }

  draw({ state, weights, strip, end }) {
    if (this.tiles.length !== strip.length) {
      this.tiles = strip.map(() => this.tile());
      this.node.replaceChildren(...this.tiles.map((tile) => tile.node));
    }
    strip.forEach(({ start, run }, i) => {
      const { node, canvas, name, verdict } = this.tiles[i];
      const [step, whole] = [run.at(-1), run.length === state.steps];
      if (step) drawImage(canvas, step.x, weights);
      else drawNothing(canvas, weights);
      node.value = start;
      node.setAttribute("aria-pressed", start === state["start-step"]);
      node.classList.toggle("unfinished", !whole);
      name.textContent = start === end ? "never" : `step ${start}`;
      const { classes, concepts } = weights;
      verdict.textContent = whole ? inWords(step.verdict, classes, concepts) : "…";
    });
  }
}
