// The page: one state, two sections, and a line for what goes wrong.

import { hasSimd } from "./kernel.js";
import { Network } from "./network.js";
import { Store } from "./store.js";
import { World } from "./world.js";

const SLOW =
  "This browser has no WebAssembly SIMD: plain JavaScript computes, some thirty times slower.";

const line = document.getElementById("message");
const standing = hasSimd() ? [] : [SLOW];

function say(...lines) {
  const text = [...standing, ...lines].filter(Boolean).join(" ");
  line.textContent = text;
  line.hidden = !text;
}

const store = new Store(location, history);
const threads = store.state.threads ?? Math.min(navigator.hardwareConcurrency || 2, 4);
const network = new Network(store, threads, say);
new World(store);
say(...store.errors);
window.addEventListener("hashchange", () => say(...store.read()));
window.playground = { store, network }; // for the console, and for the tests
