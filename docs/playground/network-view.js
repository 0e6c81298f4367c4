// What the section of the network looks like.

import { element, rich, scrubber, seedField, select, slider } from "./controls.js";
import { Differences } from "./differences.js";
import { drawImage, drawNothing } from "./pictures.js";
import { SHIPPED } from "./state.js";
import { Strip } from "./strip.js";
import { bars, inWords } from "./verdict.js";
import { acting, command, formula, shortNumber } from "./words.js";

const byId = (id) => document.getElementById(id);
const NAMES = { digits: "digits, 8×8 (instant)", mnist: "MNIST", scenes: "scenes" };

export class NetworkView {
  // open(files): weights that the visitor has.
  constructor(store, open) {
    this.store = store;
    const stepsOf = (state) => state.steps;
    const labels = () => this.labels ?? [["null", "∅"]];
    const shown = (value, state) => String(value ?? state.steps);
    const weights = (state) => [
      ...SHIPPED.map((name) => [name, NAMES[name]]),
      ...(state.file ? [["file", state.file]] : []),
    ];
    this.parts = [
      select(store, "weights", "weights", weights, (name) => ({ weights: name, file: null })),
      select(store, "class", "p₊, asked for", labels),
      select(store, "negative", "p₋, to be avoided", labels),
      slider(store, "w", "w, the scale", { show: shortNumber, hint: "guidance_scale is w + 1" }),
      slider(store, "start-step", "start step of p₋", {
        most: (state) => state["stop-step"] ?? state.steps,
        show: (k, state) => (k >= (state["stop-step"] ?? state.steps) ? "never" : String(k)),
      }),
      slider(store, "stop-step", "stop step of p₋", {
        most: stepsOf,
        show: (value) => (value === null ? "to the end" : String(value)),
      }),
      slider(store, "steps", "steps", { most: () => 50, show: shown }),
      slider(store, "eta", "η, new noise", { show: shortNumber }),
      seedField(store, "seed"),
    ];
    const kind = { type: "file", accept: ".safetensors", multiple: true };
    const file = element("input", { id: "file", ...kind });
    file.addEventListener("change", () => open([...file.files]));
    const drop = element(
      "p",
      { class: "drop" },
      element("label", { for: "file" }, "Your own: drop runs/NAME/unet.safetensors here, or "),
      file,
    );
    byId("network-controls").append(...this.parts.map((part) => part.node), drop);
    dropTarget(document.body, open);
    this.scrub = scrubber(store, "", "step shown");
    byId("scrubber").append(this.scrub.node);
    this.makePictures();
  }

  makePictures() {
    this.pair = ["without", "with"].map((which) => {
      const canvases = ["x_t", "x̂_0"].map((name) => {
        const canvas = element("canvas", { role: "img" });
        const caption = element("figcaption", {}, ...rich(name));
        return { canvas, name, node: element("figure", {}, canvas, caption), caption };
      });
      const title = element("h3");
      const verdict = element("div", { class: "verdict" });
      const node = element(
        "div",
        { class: which },
        title,
        element("div", { class: "canvases" }, ...canvases.map((c) => c.node)),
        verdict,
      );
      return { title, canvases, verdict, node };
    });
    byId("pair").append(...this.pair.map((side) => side.node));
    this.strip = new Strip(byId("strip"), (start) => this.store.set({ "start-step": start }));
    this.differences = new Differences(byId("differences"));
    this.commands = ["The two pictures above", "The row of start steps"].map((title) => {
      const code = element("code", { tabindex: "0" });
      byId("commands").append(element("p", {}, title), element("pre", {}, code));
      return code;
    });
  }

  busy(text) {
    byId("network-status").textContent = text;
  }

  draw(all) {
    const { state, weights, labelled, end, plain, chosen } = all;
    const names = [...weights.classes, "∅"];
    this.labels = [["null", "∅, anything"], ...weights.classes.map((name) => [name, name])];
    for (const part of this.parts) part.update(state);
    if (state.file) byId("weights").value = "file";
    this.scrub.update(state);
    const T = weights.schedule.T;
    const at = state.at ?? state.steps;
    const start = state["start-step"];
    const k = Math.min(at, chosen.length, state.steps - 1); // the step whose formula is shown
    const t = Math.floor((T * (state.steps - k)) / state.steps);
    const active = start <= k && k < end;
    const [positive, negative] = [names[labelled.positive], names[labelled.negative]];
    const second = active ? negative : "∅";
    byId("formula-now").replaceChildren(...rich(formula({ w: state.w, positive, second, t })));
    byId("formula-now").className = active ? "active" : "";
    byId("acting").textContent = acting(start, end, state.steps, negative);
    const from = start >= end ? "p₋ never" : `with p₋ = ${negative} from step ${start}`;
    this.pair[0].title.textContent = "without p₋";
    this.pair[1].title.textContent = from;
    [plain, chosen].forEach((run, i) => this.drawSide(this.pair[i], run, at, all));
    this.strip.draw(all);
    this.differences.draw(all, Math.min(at, state.steps - 1));
    this.commands[0].textContent = command(state, start >= end ? [start] : [start, end]);
    this.commands[1].textContent = command(state, all.strip.map((tile) => tile.start));
    const done = all.strip.filter(({ run }) => run.length === state.steps).length;
    const whole = done === all.strip.length && chosen.length === state.steps;
    const said = [plain, chosen].map((run) => {
      return inWords(run.at(-1)?.verdict, weights.classes, weights.concepts);
    });
    // For those who hear the page: once a run is whole, and not at every step.
    byId("network-said").textContent = whole
      ? `Without p₋: ${said[0]}. ${this.pair[1].title.textContent}: ${said[1]}.`
      : "";
    this.busy(
      whole
        ? `All ${done} start steps are drawn.`
        : `Step ${Math.min(plain.length, chosen.length)} of ${state.steps}; ` +
            `${done} of ${all.strip.length} start steps are drawn.`,
    );
  }

  // The state after `at` steps, or the latest that is there: so pictures unfold as they are made.
  drawSide(side, run, at, { weights, labelled, x_T }) {
    const k = Math.min(at, run.length);
    const step = run[k - 1];
    const verdict = step?.verdict;
    const said = inWords(verdict, weights.classes, weights.concepts);
    for (const { canvas, name } of side.canvases) {
      const image = name === "x_t" ? (step?.x ?? x_T) : step?.x_0;
      if (image) drawImage(canvas, image, weights);
      else drawNothing(canvas, weights);
      const what = name === "x_t" ? "the state" : "the image that it implies";
      const label = `${side.title.textContent}: ${what} after ${k} steps. ${said}`;
      canvas.setAttribute("aria-label", label);
    }
    const all = { ...labelled, ...weights };
    side.verdict.replaceChildren(...(step ? bars(verdict, weights.classes, all) : []));
  }
}

function dropTarget(node, open) {
  node.addEventListener("dragover", (event) => {
    event.preventDefault();
    node.classList.add("dropping");
  });
  node.addEventListener("dragleave", () => node.classList.remove("dropping"));
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    node.classList.remove("dropping");
    if (event.dataTransfer.files.length) open([...event.dataTransfer.files]);
  });
}
