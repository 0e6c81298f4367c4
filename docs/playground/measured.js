// The curves that docs/results.md has measured (`train.experiments course`), from its CSV files.

const FILES = { mnist: "../results/course.csv", scenes: "../results/scenes/course.csv" };
const read = new Map();

// {plus, minus}: points [t, ‖ε − ε_∅‖], means over 90 pictures without p₋; null if there is none.
export async function measured(weights, { positive, negative, nullToken, classes }) {
  if (!FILES[weights]) return null;
  if (!read.has(weights)) read.set(weights, fetchRows(FILES[weights]));
  const rows = await read.get(weights).catch(() => []); // published without docs/results
  const wanted = group(weights, classes[negative], classes[positive], positive === nullToken);
  const found = rows.filter((row) => row.run === "plain" && row.group === wanted);
  const points = (column) =>
    found.map((row) => [Number(row.t), Number(row[column])]).filter((p) => Number.isFinite(p[1]));
  const [plus, minus] = [points("norm_positive"), points("norm_negative")];
  return minus.length ? { plus, minus } : null;
}

// The group of pictures that were asked what is asked here.
function group(weights, negative, positive, unconditional) {
  if (weights === "mnist") return unconditional ? "present" : "pair";
  if (!/^\d$/.test(positive)) return null; // p₊ was a digit
  if (negative === "bold") return "bold";
  if (negative !== "ring") return null;
  if (["3", "8"].includes(positive)) return "ring strongly implied";
  if (["1", "7"].includes(positive)) return "ring weakly implied";
  return ["0", "2", "4", "5", "6"].includes(positive) ? "ring half implied" : null;
}

async function fetchRows(url) {
  const response = await fetch(url);
  if (!response.ok) return [];
  const [head, ...lines] = (await response.text()).trim().split("\n");
  const names = head.split(",");
  return lines.map((line) => Object.fromEntries(line.split(",").map((v, i) => [names[i], v])));
}
