// The graph of the chosen layer of kernel_page.py's page.
"use strict";

const LIMIT = 48; // kernels in a graph; a layer with more is drawn as its parts
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function titled(node, words) {
  node.append(svg("title", {}, words));
  return node;
}

function groupOf(i, single) {
  if (single) return { key: String(i), label: columns.name[i], layer: null };
  const layer = layerName(text("layer", i));
  const phase = text("phase", i);
  const rest = state.layer ? layer.slice(state.layer.length + 1) : layer;
  const name = rest ? rest.split("/")[0] : text("source", i).split("/").pop() || "(unknown)";
  const path = rest ? (state.layer ? `${state.layer}/${name}` : name) : null;
  const label = /^\d+$/.test(name) ? `${state.layer.split("/").pop()}/${name}` : name; // a number alone says nothing
  return { key: `${name} ${phase}`, label, layer: path };
}

const PHASES = ["forward", "other", "backward", "update"];

function makeGraph(list) {
  const single = list.length <= LIMIT;
  const groups = new Map();
  const home = new Map(); // of each kernel
  for (const i of list) {
    const { key, label, layer } = groupOf(i, single);
    if (!groups.has(key)) groups.set(key, { label, layer, kernels: [], row: 0, reads: new Map(), readers: new Map() });
    groups.get(key).kernels.push(i);
    home.set(i, groups.get(key));
  }
  for (const [a, b] of data.edges) {
    const [from, to] = [home.get(a), home.get(b)];
    if (!from || !to || from === to) continue;
    to.reads.set(from, (to.reads.get(from) || 0) + 1);
    from.readers.set(to, (from.readers.get(to) || 0) + 1);
  }
  // Phases in their turn, so that what a loop or a block used twice reads of itself does not turn the picture round.
  const phases = single ? [null] : PHASES;
  const inPhase = (phase) => (node) => phase === null || text("phase", node.kernels[0]) === phase;
  const nodes = phases.flatMap((phase) => ordering([...groups.values()].filter(inPhase(phase))));
  nodes.forEach((node, place) => { node.place = place; });
  for (const node of nodes) node.above = new Set([...node.reads.keys()].filter((from) => from.place < node.place));
  if (!single) leaveOutShortcuts(nodes);
  for (const node of nodes) node.row = Math.max(-1, ...[...node.above].map((other) => other.row)) + 1;
  return { single, nodes };
}

// An order in which few results are read before their turn: groups read each other in turns. Greedy, after Eades, Lin
// and Smyth (1993): last what nothing that is left reads, first what reads nothing that is left, else what is read most
// beyond what it reads.
function ordering(nodes) {
  const left = new Set(nodes);
  const weigh = (pairs) => [...pairs].reduce((sum, [node, times]) => sum + (left.has(node) ? times : 0), 0);
  const [begin, end] = [[], []];
  while (left.size) {
    const rated = [...left].map((node) => [node, weigh(node.reads), weigh(node.readers)]);
    const first = rated.find(([, reads]) => !reads);
    const last = rated.findLast(([, , readers]) => !readers);
    const better = (best, other) => (other[2] - other[1] > best[2] - best[1] ? other : best);
    const [node] = first || last || rated.reduce(better);
    left.delete(node);
    if (first || !last) begin.push(node);
    else end.unshift(node);
  }
  return [...begin, ...end];
}

function leaveOutShortcuts(nodes) {
  for (const node of nodes) {
    node.before = new Set([...node.above].flatMap((other) => [other, ...other.before]));
    const direct = [...node.above];
    node.above = new Set(direct.filter((from) => !direct.some((other) => other.before.has(from))));
  }
}

function placeNodes(nodes) {
  const rows = [];
  for (const node of nodes) (rows[node.row] ||= []).push(node);
  for (const row of rows) {
    for (const node of row) {
      const above = [...node.above];
      node.wish = above.length ? above.reduce((sum, other) => sum + other.x, 0) / above.length : 0;
    }
    row.sort((a, b) => a.wish - b.wish || a.place - b.place);
    row.forEach((node, place) => { node.x = place - (row.length - 1) / 2; });
  }
  return { rows: rows.length, widest: Math.max(...rows.map((row) => row.length), 1) };
}

function drawGraph() {
  const list = [...shown].sort((a, b) => a - b);
  const { single, nodes } = makeGraph(list);
  const { rows, widest } = placeNodes(nodes);
  const [boxWidth, boxHeight, stepX, stepY] = [214, 40, 228, 66];
  const [width, height] = [widest * stepX + 16, rows * stepY + 8];
  const viewBox = `0 0 ${width} ${height}`;
  const drawing = svg("svg", { viewBox, width, height, role: "group", "aria-labelledby": "graph-title" });
  const x = (node) => width / 2 + node.x * stepX - boxWidth / 2;
  const y = (node) => 8 + node.row * stepY;
  for (const node of nodes) {
    for (const from of node.above) {
      const [x0, y0, x1, y1] = [x(from) + boxWidth / 2, y(from) + boxHeight, x(node) + boxWidth / 2, y(node)];
      const bend = Math.min(60, (y1 - y0) / 2 + 6);
      const d = `M${x0},${y0} C${x0},${y0 + bend} ${x1},${y1 - bend} ${x1},${y1}`;
      drawing.append(svg("path", { class: "edge", d }));
    }
  }
  for (const node of nodes) drawing.append(drawNode(node, single, x(node), y(node), boxWidth, boxHeight));
  const box = byId("graph");
  box.replaceChildren(drawing);
  box.scrollTo((box.scrollWidth - box.clientWidth) / 2, 0);
  byId("graph-title").textContent = `Graph of ${state.layer || "the whole step"}`;
  const parts = `its ${nodes.length} parts, by phase; an arrow for which there is a longer way is left out. `
    + "Choose a part, or a layer in the tree, to see its kernels";
  const what = single ? `its ${list.length} kernels` : parts;
  const filter = state.phase || state.find ? " that the table shows" : "";
  byId("graph-note").textContent = data.counted
    ? `Which result is read where, from above to below${filter}: ${what}.`
    : "Which operation reads which result is drawn of compiled steps.";
}

function drawNode(node, single, left, top, width, height) {
  const i = node.kernels[0];
  const sum = total(node.kernels, weight);
  const amount = data.timed ? duration(sum) : `${scaled(sum)}B`;
  const many = node.kernels.length === 1 ? "1 kernel" : `${node.kernels.length} kernels`;
  const what = single ? text("operation", i) || text("kind", i) : `${text("phase", i)}, ${many}`;
  const mark = svg("g", { class: `node ${text("phase", i)}`, tabindex: "0", role: "button" });
  if (single) mark.dataset.kernel = i;
  if (single && i === state.chosen) mark.classList.add("chosen");
  const short = (words, most) => (words.length > most ? `${words.slice(0, most - 9)}…${words.slice(-8)}` : words);
  mark.append(svg("rect", { x: left, y: top, width, height, rx: 5 }));
  mark.append(svg("text", { x: left + 8, y: top + 16 }, short(node.label, 30)));
  mark.append(svg("text", { x: left + 8, y: top + 32, class: "faint" }, `${short(what, 22)}, ${amount}`));
  titled(mark, `${node.label}: ${what}, ${amount}, ${percent(sum / whole)}`);
  const go = () => {
    if (single) choose(i);
    else if (node.layer) chooseLayer(node.layer);
    else { byId("find").value = state.find = node.label; refresh(); }
  };
  mark.addEventListener("click", go);
  mark.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    go();
  });
  return mark;
}
