// The Gaussians' handles in the plane: to be dragged, or moved with the arrow keys; and the fields
// of the one that is chosen.

import { element } from "./controls.js";
import { REACH } from "./plane.js";
import { shortNumber } from "./words.js";

const STEP = 0.1;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const clamp = (v) => Math.round(100 * Math.max(-REACH, Math.min(REACH, v))) / 100;

export class Handles {
  // change(gaussians): they are as the visitor wants them.
  constructor(plane, controls, change) {
    Object.assign(this, { plane, change, chosen: 0, handles: [] });
    this.legend = element("legend");
    const range = (key, label, min, max) => {
      const input = element("input", { type: "range", min, max, step: 0.01, id: `chosen-${key}` });
      // To four digits, which is what the URL keeps.
      const value = () => Math.round(1e4 * 10 ** Number(input.value)) / 1e4;
      input.addEventListener("input", () => this.set({ [key]: value() }));
      const output = element("output", { for: input.id });
      const name = element("label", { for: input.id }, label);
      const node = element("div", { class: "control" }, name, output, input);
      return { key, input, output, node };
    };
    this.ranges = [range("variance", "variance", -2, 0.3), range("weight", "weight", -3, 1)];
    this.boxes = ["plus", "minus"].map((key) => {
      const input = element("input", { type: "checkbox" });
      input.addEventListener("change", () => this.set({ [key]: input.checked }));
      const label = element("label", {}, input, key === "plus" ? " p₊ ●" : " p₋ ▲");
      return { key, input, label };
    });
    const boxes = element("div", { class: "boxes" }, ...this.boxes.map((box) => box.label));
    const ranges = this.ranges.map((r) => r.node);
    controls.append(element("fieldset", {}, this.legend, ...ranges, boxes));
  }

  set(changes) {
    const changed = this.gaussians.map((g, i) => (i === this.chosen ? { ...g, ...changes } : g));
    this.change(changed);
  }

  update(gaussians) {
    this.gaussians = gaussians;
    if (this.chosen >= gaussians.length) this.chosen = 0;
    if (this.handles.length !== gaussians.length) {
      for (const handle of this.handles) handle.remove();
      this.handles = gaussians.map((_, i) => this.handle(i));
      this.plane.append(...this.handles);
    }
    gaussians.forEach((g, i) => {
      const handle = this.handles[i];
      const place = (v) => `${(100 * (v + REACH)) / (2 * REACH)}%`;
      handle.style.left = place(g.x);
      handle.style.bottom = place(g.y);
      handle.style.width = `${(100 * Math.sqrt(g.variance)) / REACH}%`; // one deviation each way
      handle.textContent = (g.plus ? "●" : "") + (g.minus ? "▲" : "") || "■";
      const kinds = [g.plus && "p₊", g.minus && "p₋"].filter(Boolean).join(" and ") || "neither";
      const name = `Gaussian ${i + 1}, ${kinds}, at ${shortNumber(g.x)}, ${shortNumber(g.y)}`;
      handle.setAttribute("aria-label", `${name}. Arrow keys move it.`);
      handle.setAttribute("aria-pressed", i === this.chosen);
      handle.classList.toggle("plus", g.plus);
      handle.classList.toggle("minus", g.minus);
    });
    const g = gaussians[this.chosen];
    this.legend.textContent = `Gaussian ${this.chosen + 1} (drag it, or choose another)`;
    for (const { key, input, output } of this.ranges) {
      input.value = Math.log10(g[key]);
      output.value = String(Number(g[key].toPrecision(2)));
      input.setAttribute("aria-valuetext", output.value);
    }
    for (const { key, input } of this.boxes) input.checked = g[key];
  }

  handle(i) {
    const handle = element("button", { type: "button", class: "handle" });
    handle.addEventListener("focus", () => this.choose(i));
    handle.addEventListener("keydown", (event) => {
      const move = MOVES[event.key];
      if (!move) return;
      event.preventDefault();
      const { x, y } = this.gaussians[i];
      this.set({ x: clamp(x + STEP * move[0]), y: clamp(y + STEP * move[1]) });
    });
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // or a touch would scroll
      handle.focus();
      this.choose(i);
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = this.plane.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width - 0.5) * 2 * REACH;
      const y = (0.5 - (event.clientY - box.top) / box.height) * 2 * REACH;
      this.set({ x: clamp(x), y: clamp(y) });
    });
    return handle;
  }

  choose(i) {
    if (i === this.chosen) return;
    this.chosen = i;
    this.update(this.gaussians);
  }
}
