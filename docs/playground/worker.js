// One thread: it holds the networks and unfolds one run after another, each step said at once.

import { Schedule } from "./diffusion.js";
import { Judge, probabilities } from "./judge.js";
import { unfold } from "./run.js";
import { readWeights } from "./safetensors.js";
import { UNet } from "./unet.js";

let networks = null;
let wanted = null; // the job that is still wanted

// A turn of the event loop, without setTimeout's four milliseconds: messages get their chance.
const channel = new MessageChannel();
const turn = () =>
  new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });

function load({ unet, judge }) {
  const { info, tensors } = readWeights(unet, "unet.safetensors", "UNet");
  const schedule = Schedule.fromInfo(info.schedule);
  networks = { unet: new UNet(info.architecture, tensors), schedule };
  if (!judge) return;
  const read = readWeights(judge, "judge.safetensors", "Judge");
  const network = new Judge(read.info.architecture, read.tensors);
  networks.judge = (image) => probabilities(network.logits(image), info.concepts);
}

// ε_θ that remembers what it said of the last x_t: p₊ = ∅ costs one evaluation, not two.
function remembering(unet) {
  let last = null;
  const said = new Map();
  const eps = (x, t, c) => {
    if (x !== last) said.clear();
    last = x;
    if (!said.has(c)) said.set(c, unet.eps(x, t, c));
    return said.get(c);
  };
  return { eps, said };
}

async function run({ id, x, from, end, options }) {
  const { unet, schedule, judge } = networks;
  const { eps, said } = remembering(unet);
  const all = { ...options, eps, schedule, nullToken: unet.nullToken };
  let k = from;
  for (const { x: state, x_0 } of unfold(x, from, all)) {
    const verdict = judge ? judge(x_0) : null;
    postMessage({ id, k, x: state, x_0, verdict, said: new Map(said) });
    await turn();
    if (++k === end || wanted !== id) return;
  }
}

// ε of one more label at states that are there already.
async function look({ id, states, label }) {
  for (const { k, t, x } of states) {
    postMessage({ id, k, eps: networks.unet.eps(x, t, label) });
    await turn();
    if (wanted !== id) return;
  }
}

onmessage = async ({ data }) => {
  try {
    if (data.load) load(data.load);
    if (data.stop !== undefined && wanted === data.stop) wanted = null;
    if (!data.job) return;
    wanted = data.job.id;
    await (data.job.states ? look : run)(data.job);
    postMessage({ id: data.job.id, done: true });
  } catch (error) {
    postMessage({ error: error.message });
  }
};
