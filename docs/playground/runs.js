// Which runs are wanted, what is known of them, and which thread does what.
//
// A run is the list of its second tokens, one for each step: ∅ or p₋. Two runs share every state up
// to the first step in which they differ. So the run with p₋ from step k on branches off the run
// without it, and what is kept under a run's beginning is never computed again.

import { noise, tokens } from "./run.js";
import { timesteps } from "./schedule.js";

const KEPT = 6; // settings of the other options, of which the runs are kept

export class Runs {
  // threads: workers; changed: called after every step; failed: with a line.
  constructor(threads, changed, failed) {
    this.changed = changed;
    this.known = new Map(); // settings -> Map(beginning of a run -> step)
    this.wanted = [];
    this.jobs = 0;
    this.threads = Array.from({ length: threads }, () => {
      const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
      const thread = { worker, job: null };
      worker.onmessage = ({ data }) => this.heard(thread, data);
      worker.onerror = () => failed("A thread of the page could not start.");
      return thread;
    });
    this.failed = failed;
  }

  // Networks for every thread; version tells their runs from those of others. info: {T, nullToken,
  // size}, where size counts the numbers of an image.
  load({ version, info, unet, judge }) {
    Object.assign(this, { version, ...info });
    this.wanted = [];
    for (const thread of this.threads) {
      if (thread.job) thread.worker.postMessage({ stop: thread.job.id });
      thread.worker.postMessage({ load: { unet, judge } });
    }
  }

  // options: positive, negative (numbers), w, stop, steps, eta, seed; starts: start steps in the
  // order in which they are wanted, of which the first two are chosen and plain: the chosen run's
  // beginning is the plain one's too.
  want(options, starts) {
    const { positive, w, steps, eta, seed } = options;
    this.options = options;
    this.settings = JSON.stringify([this.version, seed, positive, w, steps, eta]);
    const known = this.known.get(this.settings) ?? new Map();
    this.known.delete(this.settings);
    this.known.set(this.settings, known); // the latest last
    for (const key of [...this.known.keys()].slice(0, -KEPT)) this.known.delete(key);
    const [chosen, plain, ...others] = starts.map((start) => this.tokensOf(start));
    const looked = { looked: plain, label: options.negative };
    this.wanted = [chosen, plain, looked, ...others];
    this.x_T = noise(seed, this.size);
    this.dispatch();
  }

  tokensOf(start) {
    const { steps, negative, stop } = this.options;
    const { T, nullToken } = this;
    return tokens({ T, steps, start, stop, negative, nullToken });
  }

  // The steps that are known of the run with this start step: {x, x_0, verdict, said}.
  get(start) {
    return this.beginning(this.tokensOf(start));
  }

  // ε of p₋ along the run without it, as far as it is known: one for each step.
  lookedAt(label) {
    const known = this.known.get(this.settings);
    const [found, key] = [[], (k) => `look ${label} ${k}`];
    for (let k = 0; known.has(key(k)); k++) found.push(known.get(key(k)));
    return found;
  }

  beginning(run) {
    const known = this.known.get(this.settings);
    const found = [];
    for (let k = 1; k <= run.length && known.has(run.slice(0, k).join()); k++) {
      found.push(known.get(run.slice(0, k).join()));
    }
    return found;
  }

  // The next job of something wanted; null where it is done or waits for a step of another run.
  jobOf(wish, busy) {
    if (wish.looked) {
      const states = this.beginning(wish.looked);
      const [from, { steps }] = [this.lookedAt(wish.label).length, this.options];
      if (states.length < steps || from === steps) return null;
      const t = timesteps(this.T, steps);
      const all = [this.x_T, ...states.map((step) => step.x)];
      const left = t.map((_, k) => ({ k, t: t[k], x: all[k] })).slice(from);
      return { key: `look ${wish.label}`, states: left, label: wish.label };
    }
    const known = this.beginning(wish);
    const key = wish.join();
    if (known.length === wish.length) return null;
    const next = wish.slice(0, known.length + 1).join();
    const waits = busy.some((job) => job.key !== key && `${job.key},`.startsWith(`${next},`));
    if (waits) return null;
    const x = known.at(-1)?.x ?? this.x_T;
    return { key, x, from: known.length, end: wish.length, options: this.optionsOf(wish) };
  }

  // Of a list of tokens the start and the stop step again.
  optionsOf(wish) {
    const first = wish.findIndex((token) => token !== this.nullToken);
    const last = wish.findLastIndex((token) => token !== this.nullToken);
    const [start, stop] = first < 0 ? [0, 0] : [first, last + 1];
    return { ...this.options, start, stop };
  }

  // The first of the wishes that can be worked at get the threads. A job that is less wanted stops
  // after its step, and loses nothing: its steps are kept.
  dispatch() {
    const jobs = [];
    // Until the chosen run is whole the strip waits: on a busy machine it would take its time.
    const [chosen] = this.wanted;
    const whole = chosen && this.beginning(chosen).length === chosen.length;
    for (const wish of whole ? this.wanted : this.wanted.slice(0, 2)) {
      if (jobs.length === this.threads.length) break;
      const job = this.jobOf(wish, jobs);
      if (job && !jobs.some((other) => other.key === job.key)) jobs.push(job);
    }
    const runs = (job, thread) =>
      thread.job?.key === job.key && thread.job.settings === this.settings;
    for (const thread of this.threads) {
      const idle = !thread.job || jobs.some((job) => runs(job, thread));
      if (!idle) thread.worker.postMessage({ stop: thread.job.id });
    }
    for (const job of jobs) {
      if (this.threads.some((thread) => runs(job, thread))) continue;
      const thread = this.threads.find((candidate) => !candidate.job);
      if (!thread) return; // until one has stopped
      const { key, ...rest } = job;
      thread.job = { id: ++this.jobs, key, settings: this.settings };
      thread.worker.postMessage({ job: { ...rest, id: thread.job.id } });
    }
  }

  heard(thread, { id, error, done, k, ...step }) {
    const job = thread.job;
    if (error) {
      [thread.job, this.wanted] = [null, []]; // or it would fail again and again
      return this.failed(error);
    }
    if (done) thread.job = null;
    else {
      const key = job.key.startsWith("look")
        ? `${job.key} ${k}`
        : job.key.split(",").slice(0, k + 1).join();
      this.known.get(job.settings)?.set(key, step.eps ?? step);
      if (job.settings === this.settings) this.changed();
    }
    if (this.wanted.length) this.dispatch();
  }
}
