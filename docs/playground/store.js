// The state, who is told when it changes, and its URL.

import { format, parse, settle } from "./state.js";

export class Store {
  constructor(location, history) {
    const { state, errors } = parse(location.hash);
    Object.assign(this, { state, errors, location, history, listeners: [] });
  }

  // listener(state, changed): changed is a Set of keys.
  listen(listener) {
    this.listeners.push(listener);
  }

  set(changes) {
    const before = this.state;
    const state = { ...before, ...changes };
    settle(state, ""); // a slider that gets shorter takes the others along
    settle(state, "world-");
    const changed = new Set(Object.keys(state).filter((key) => state[key] !== before[key]));
    if (!changed.size) return;
    this.state = state;
    this.save();
    for (const listener of this.listeners) listener(state, changed);
  }

  // Into the address bar, at most five times a second: browsers refuse more.
  save() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const { pathname, search } = this.location;
      this.history.replaceState(null, "", format(this.state) || pathname + search);
    }, 200);
  }

  // The address bar was changed by hand. A bare anchor such as #exact-world is no state.
  read() {
    const { hash } = this.location;
    if (hash && !hash.includes("=")) return [];
    const { state, errors } = parse(hash);
    this.set({ ...state, file: this.state.file });
    return errors;
  }
}
