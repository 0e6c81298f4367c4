// What tests/programs/test_playground.py asks of docs/playground: a task, as JSON, and its answer.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { Arena } from "../docs/playground/arena.js";
import * as diffusion from "../docs/playground/diffusion.js";
import { Judge } from "../docs/playground/judge.js";
import { kernelBytes } from "../docs/playground/kernel.js";
import { Generator, randn, streamSeed } from "../docs/playground/rng.js";
import { noise, unfold } from "../docs/playground/run.js";
import { readWeights } from "../docs/playground/safetensors.js";
import { defaults, format, labelOf, parse } from "../docs/playground/state.js";
import { UNet } from "../docs/playground/unet.js";
import { acting, command, formula } from "../docs/playground/words.js";

function weights(path, kind = "UNet") {
  const file = readFileSync(path);
  const buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
  const { info, tensors } = readWeights(buffer, path.split("/").at(-1), kind);
  return { info, tensors };
}

function network(path, plain = false) {
  const { info, tensors } = weights(path);
  return { info, unet: new UNet(info.architecture, tensors, { plain }) };
}

const TASKS = {
  noise({ seed, sizes, double }) {
    const generator = new Generator(BigInt(seed));
    return sizes.map((n) => [...randn(n, generator, double ? Float64Array : Float32Array)]);
  },

  streams: ({ seed, streams }) => streams.map((i) => String(streamSeed(BigInt(seed), i))),

  schedule({ info, steps, subsequence }) {
    const s = diffusion.Schedule.fromInfo(info);
    const { beta, alpha, alphaBar, posteriorVariance } = s;
    const sub = s.subsequence(diffusion.timesteps(s.T, subsequence)).beta;
    const visited = steps.map((S) => diffusion.timesteps(s.T, S));
    return { beta, alpha, alphaBar, posteriorVariance, sub, visited };
  },

  eps({ file, x, cases, plain }) {
    const { unet } = network(file, plain);
    return cases.map(([t, c]) => [...unet.eps(Float32Array.from(x), t, c)]);
  },

  run({ file, options, x_T }) {
    const { info, unet } = network(file);
    const eps = (x, t, c) => unet.eps(x, t, c);
    const schedule = diffusion.Schedule.fromInfo(info.schedule);
    const { size, channels } = info.architecture;
    const x = x_T ? Float32Array.from(x_T) : noise(options.seed, channels * size * size);
    const all = { ...options, eps, schedule, nullToken: unet.nullToken };
    return [...unfold(x, 0, all)].map((step) => ({ x: [...step.x], x_0: [...step.x_0] }));
  },

  // A whole run, and the same one from each of its states on: in how many numbers they differ.
  branches({ file, options }) {
    const { info, unet } = network(file);
    const eps = (x, t, c) => unet.eps(x, t, c);
    const schedule = diffusion.Schedule.fromInfo(info.schedule);
    const { size, channels } = info.architecture;
    const all = { ...options, eps, schedule, nullToken: unet.nullToken };
    const x_T = noise(options.seed, channels * size * size);
    const whole = [...unfold(x_T, 0, all)].map((step) => step.x);
    return whole.slice(0, -1).map((x, k) => {
      const rest = [...unfold(x, k + 1, all)].map((step) => step.x);
      return rest.flatMap((y, i) => [...y].filter((v, j) => v !== whole[k + 1 + i][j])).length;
    });
  },

  judge({ file, images }) {
    const { info, tensors } = weights(file, "Judge");
    const judge = new Judge(info.architecture, tensors);
    return images.map((image) => [...judge.logits(Float32Array.from(image))]);
  },

  read({ file, kind }) {
    return { classes: weights(file, kind).info.classes };
  },

  values: ({ file, name }) => [...weights(file).tensors.get(name)],

  mixture({ mean, variance, weight, concepts, schedule, x, t }) {
    const mixture = new diffusion.GaussianMixture(mean, variance, weight, concepts);
    const s = diffusion.Schedule.fromInfo(schedule);
    const points = Float64Array.from(x.flat());
    const labels = [...Array(mixture.nullToken + 1).keys()];
    return labels.map((c) => ({
      eps: [...mixture.eps(s)(points, t, c)],
      logProb: [...mixture.logProb(s, points, t, c)],
      logPosterior: c < mixture.nullToken ? [...mixture.logPosterior(s, points, t, c)] : null,
    }));
  },

  world({ mean, variance, weight, concepts, schedule, x_T, guide, sampler }) {
    const mixture = new diffusion.GaussianMixture(mean, variance, weight, concepts);
    const s = diffusion.Schedule.fromInfo(schedule);
    const eps = mixture.eps(s);
    const options = { null: mixture.nullToken, start: guide.start, stop: guide.stop };
    const logProb = (x, t) => mixture.logPosterior(s, x, t, guide.negative);
    const made = {
      free: () => diffusion.classifierFreeGuidance(eps, guide.positive, guide.w, options),
      negative: () =>
        diffusion.negativeGuidance(eps, guide.positive, guide.negative, guide.w, options),
      posterior: () => {
        const all = { ...options, positive: guide.positive, scale: guide.w };
        return diffusion.posteriorNegativeGuidance(eps, logProb, guide.negative, all);
      },
    }[guide.kind]();
    const z = sampler.noise?.map((row) => Float64Array.from(row.flat()));
    const how = { clip: sampler.clip, noise: () => z.shift() };
    const x = Float64Array.from(x_T.flat());
    const steps =
      sampler.name === "ddim"
        ? diffusion.ddim(s, made, x, sampler.steps, { ...how, eta: sampler.eta })
        : diffusion.ancestral(s, made, x, sampler.steps, { ...how, variance: sampler.variance });
    return [...steps].map((step) => ({ t: step.t, x: [...step.x], x_0: [...step.x_0] }));
  },

  // The kernel and its twin on the same numbers: in how many places of their memories they differ.
  kernel({ shapes, seed }) {
    return shapes.map(({ width, height, side, cIn, blocks, stride, spread }) => {
      const [first, second] = [false, true].map((plain) => {
        const arena = new Arena({ plain });
        arena.allocate(250_000);
        arena.f.set(randn(120_000, new Generator(seed)).map((v) => spread * v));
        const [pixel, row] = [4 * cIn, 4 * cIn * (stride * width + side)];
        arena.product(
          0, stride * pixel, stride * row, row, side, side * cIn, 4 * 60_000, 4 * 110_000,
          4 * 120_000, 32 * blocks, 32 * blocks * width, width, height, blocks,
        );
        arena.activate(
          0, row, 4 * 180_000, row, 4 * 110_000, 4 * 111_000, 32 * blocks, width, height,
        );
        // What lies behind an image's end is nobody's: a tile may run over it.
        const area = 8 * blocks * height * width;
        const both = new Float32Array(2 * area);
        both.set(arena.f.subarray(120_000, 120_000 + area));
        both.set(arena.f.subarray(180_000, 180_000 + area), area);
        return new Uint32Array(both.buffer); // −0 is not 0
      });
      return first.reduce((n, bits, i) => n + (bits !== second[i]), 0);
    });
  },

  // SiLU as the kernel has it.
  silu({ x }) {
    const arena = new Arena({ plain: false });
    arena.allocate(3000);
    arena.f.set(x);
    arena.f.fill(1, 1000, 1004);
    arena.activate(0, 0, 4 * 2000, 0, 4000, 4 * 1100, 16, x.length / 4, 1);
    return [...arena.f.slice(2000, 2000 + x.length)];
  },

  parse({ hash }) {
    const { state, errors } = parse(hash);
    return { state, errors, hash: format(state), again: parse(format(state)).state };
  },
  defaults: () => defaults(),
  label: ({ text, classes }) => labelOf("class", text, classes),
  command: ({ hash, starts, file }) => command({ ...parse(hash).state, file }, starts),
  words: ({ numbers, when }) => ({ formula: formula(numbers), acting: acting(...when) }),

  bytes: () => kernelBytes().length,
};

// A task a line, until there are no more.
for await (const line of createInterface({ input: process.stdin })) {
  const { task, ...request } = JSON.parse(line);
  let answer;
  try {
    answer = { answer: TASKS[task](request) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
