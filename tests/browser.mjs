// Chromium without a window, over the DevTools protocol's pipe: no package, no port.
//
// In, as JSON: {browser, flags, actions}. Out: {answers, requests, errors}. An action is one of
//   {goto: url}  {evaluate: expression}  {until: expression}  {screenshot: path}
//   {size: [width, height], phone, dark}  {press: key}  {mouse: [[x, y], …]} (down, moves, up)
//   {files: [paths], of: selector}  {before: script}, which runs before a page's own

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { browser, flags, actions } = JSON.parse(readFileSync(0, "utf8"));
const profile = mkdtempSync(join(tmpdir(), "playground-"));
const chromium = spawn(
  browser,
  ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
   "--disable-background-networking", `--user-data-dir=${profile}`, "--remote-debugging-pipe",
   ...flags, "about:blank"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);

// Requests and answers are JSON with a zero byte behind; events have no id.
const [requests, errors, waiting] = [[], [], new Map()];
let [last, session, rest] = [0, undefined, ""];

function send(method, params = {}) {
  const id = ++last;
  chromium.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

chromium.stdio[3].on("error", () => {}); // of a browser that has left
chromium.stdio[4].setEncoding("utf8").on("data", (text) => {
  const parts = (rest + text).split("\0");
  rest = parts.pop();
  for (const part of parts) heard(JSON.parse(part));
});

function heard({ id, result, error, method, params }) {
  if (method === "Network.requestWillBeSent") requests.push(params.request.url);
  if (method === "Runtime.exceptionThrown") {
    const { text, exception } = params.exceptionDetails;
    errors.push(exception?.description ?? text);
  }
  if (method === "Log.entryAdded" && params.entry.level === "error") errors.push(params.entry.text);
  if (id === undefined) return;
  if (error) waiting.get(id).reject(new Error(error.message));
  else waiting.get(id).resolve(result);
}

async function evaluate(expression) {
  const all = { expression, awaitPromise: true, returnByValue: true };
  const { result, exceptionDetails } = await send("Runtime.evaluate", all);
  if (exceptionDetails) {
    throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
  }
  return result.value;
}

const KEYS = { ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40 };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const ACTIONS = {
  goto: async ({ goto }) => {
    await send("Page.navigate", { url: goto });
    await ACTIONS.until({ until: "document.readyState === 'complete'" });
  },
  evaluate: ({ evaluate: expression }) => evaluate(expression),
  until: async ({ until, seconds = 60 }) => {
    for (const end = Date.now() + 1000 * seconds; Date.now() < end; await pause(50)) {
      if (await evaluate(until)) return;
    }
    throw new Error(`not within ${seconds} s: ${until}; errors: ${errors.join("; ")}`);
  },
  size: async ({ size: [width, height], phone = false, dark = false }) => {
    const device = { width, height, deviceScaleFactor: phone ? 2 : 1, mobile: phone };
    await send("Emulation.setDeviceMetricsOverride", device);
    const value = dark ? "dark" : "light";
    const features = [{ name: "prefers-color-scheme", value }];
    await send("Emulation.setEmulatedMedia", { features });
  },
  press: async ({ press: key }) => {
    const code = KEYS[key];
    for (const type of ["rawKeyDown", "keyUp"]) {
      await send("Input.dispatchKeyEvent", { type, key, code: key, windowsVirtualKeyCode: code });
    }
  },
  mouse: async ({ mouse }) => {
    const at = ([x, y], type) =>
      send("Input.dispatchMouseEvent", { type, x, y, button: "left", buttons: 1, clickCount: 1 });
    await at(mouse[0], "mousePressed");
    for (const point of mouse.slice(1)) await at(point, "mouseMoved");
    await at(mouse.at(-1), "mouseReleased");
  },
  files: async ({ files, of }) => {
    const { root } = await send("DOM.getDocument");
    const { nodeId } = await send("DOM.querySelector", { nodeId: root.nodeId, selector: of });
    await send("DOM.setFileInputFiles", { nodeId, files });
  },
  before: ({ before: source }) => send("Page.addScriptToEvaluateOnNewDocument", { source }),
  screenshot: async ({ screenshot, whole = false }) => {
    const { data } = await send("Page.captureScreenshot", { captureBeyondViewport: whole });
    writeFileSync(screenshot, Buffer.from(data, "base64"));
  },
};

async function all() {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const attached = await send("Target.attachToTarget", { targetId, flatten: true });
  session = attached.sessionId;
  for (const domain of ["Page", "Runtime", "Network", "Log"]) await send(`${domain}.enable`);
  const answers = [];
  for (const action of actions) {
    const name = Object.keys(ACTIONS).find((key) => key in action);
    answers.push((await ACTIONS[name](action)) ?? null);
  }
  return { answers, requests, errors };
}

const left = new Promise((_, reject) => {
  chromium.on("error", reject);
  chromium.on("exit", (code) => reject(new Error(`${browser} left with ${code}`)));
});
const failed = (error) => ({ failed: error.message, errors });
const answer = await Promise.race([all(), left]).catch(failed);
process.stdout.write(JSON.stringify(answer));
session = undefined;
send("Browser.close").catch(() => {});
setTimeout(() => chromium.kill("SIGKILL"), 5000).unref();
await left.catch(() => {});
rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
