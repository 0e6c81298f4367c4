// Weights files: the shipped ones, and what a visitor drops onto the page.

import { Schedule } from "./diffusion.js";
import { readWeights } from "./safetensors.js";

async function fetched(url) {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) {
    throw new Error(`${url.split("/").slice(-2).join("/")} could not be read from this server`);
  }
  return response.arrayBuffer();
}

// {name, info, unet, judge}: what is to be known of the network, and both files' bytes.
export async function shipped(name) {
  const directory = `../../weights/${name}`;
  const [unet, judge] = await Promise.all([
    fetched(`${directory}/unet.safetensors`),
    fetched(`${directory}/judge.safetensors`),
  ]);
  return described(name, unet, judge);
}

// The files that were dropped: a U-Net's, and its judge's if that is among them.
export async function dropped(files) {
  const judges = files.filter((file) => /judge/i.test(file.name));
  const unets = files.filter((file) => !judges.includes(file));
  if (unets.length !== 1 || judges.length > 1) {
    const names = files.map((file) => file.name).join(", ");
    throw new Error(
      `unet.safetensors, with judge.safetensors beside it or not, must be dropped, got ${names}`,
    );
  }
  const [unet] = unets;
  if (unet.size > 1e9) throw new Error(`${unet.name} must be smaller than 1 GB`);
  const judge = judges.length ? await judges[0].arrayBuffer() : null;
  return described(unet.name, await unet.arrayBuffer(), judge);
}

// Every check is made here, before a thread sees the bytes.
function described(name, unet, judge) {
  const file = name.includes(".") ? name : `weights/${name}/unet.safetensors`;
  const { info } = readWeights(unet, file, "UNet");
  const { size, channels, classes: K } = info.architecture;
  const { classes } = info;
  const named = Array.isArray(classes) && classes.every((name) => typeof name === "string");
  if (!named || classes.length !== K) {
    throw new Error(`${file} must name its ${K} classes by texts`);
  }
  let schedule;
  try {
    schedule = Schedule.fromInfo(info.schedule);
  } catch (error) {
    throw new Error(`${file} names a schedule that can't be made: ${error.message}`);
  }
  if (judge) {
    const a = readWeights(judge, "judge.safetensors", "Judge").info.architecture;
    if (a.size !== size || a.channels !== channels || a.classes !== K) {
      throw new Error("judge.safetensors must judge the images and classes of the U-Net's file");
    }
  }
  const concepts = Boolean(info.concepts);
  return { name, unet, judge, classes, concepts, size, channels, schedule, nullToken: K };
}
