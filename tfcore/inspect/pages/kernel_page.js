// The layer tree, the kernel table and the chosen kernel of kernel_page.py's page. Everything is set as text.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const columns = data.columns;
const kernels = columns.name.map((_, i) => i);
const byId = (id) => document.getElementById(id);
const total = (list, column) => list.reduce((sum, i) => sum + (columns[column][i] || 0), 0);
const weight = data.timed ? "us" : "bytes"; // what shares are shares of
const whole = Math.max(total(kernels, weight), 1e-9);
const CHUNK = 100; // rows at a time
const first = data.timed ? "us" : data.counted ? "bytes" : "layer"; // the column to sort by
const state = { layer: "", phase: "", find: "", sort: first, down: first !== "layer", chosen: -1 };

function text(column, i) {
  return data.texts[columns[column][i]];
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.map(String));
  return made;
}

function scaled(value) {
  if (value === null || value === undefined) return "";
  for (const [size, prefix] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= 0.9995 * size) return Number((value / size).toPrecision(3)) + prefix;
  }
  return `${Number(value.toPrecision(3))} `; // a unit may follow
}

const digits = (value) => ({ maximumFractionDigits: value < 100 ? 1 : 0 });
const micro = (value) => (value === null ? "" : value.toLocaleString("en", digits(value)));
const duration = (us) => (us < 1000 ? `${micro(us)} µs` : `${Number((us / 1000).toPrecision(3))} ms`);
const percent = (value) => (value === null ? "" : (100 * value).toFixed(value < 0.0995 ? 1 : 0) + " %");
const layerName = (layer) => layer || "(unknown)";

// `value` to sort by, `show` the text, if it is another; columns of numbers begin with the largest.
const HEADER = [
  { key: "name", title: "kernel", value: (i) => columns.name[i] },
  ...(data.timed ? [number("us", "µs", (i) => columns.us[i], micro)] : []),
  ...(data.timed || data.counted ? [number("share", "share", (i) => (columns[weight][i] || 0) / whole, percent)] : []),
  ...(data.ceilings ? [number("fraction", "of roof", (i) => columns.fraction[i], percent)] : []),
  ...(data.ceilings ? [{ key: "bound", title: "bound", value: (i) => text("bound", i) }] : []),
  ...(data.counted
    ? [
        number("flops", "FLOP", (i) => columns.flops[i], scaled),
        number("bytes", "bytes", (i) => columns.bytes[i], scaled),
        number("intensity", "FLOP/B", intensity, scaled),
      ]
    : []),
  { key: "operation", title: "operation", value: (i) => text("operation", i) || text("kind", i) },
  { key: "phase", title: "phase", value: (i) => text("phase", i) },
  { key: "layer", title: "layer", value: (i) => layerName(text("layer", i)) },
  { key: "source", title: "source", value: (i) => text("source", i), show: (i) => text("source", i).split("/").pop() },
];

function number(key, title, value, words) {
  return { key, title, value, number: true, show: (i) => words(value(i)) };
}

function intensity(i) {
  return columns.bytes[i] ? columns.flops[i] / columns.bytes[i] : null;
}

// Table --------------------------------------------------------------------------------------------------------------

let shown = []; // the kernels that pass the filters, in the table's order
let drawn = 0; // how many of them have a row

function inLayer(i) {
  const layer = layerName(text("layer", i));
  return !state.layer || layer === state.layer || layer.startsWith(state.layer + "/");
}

function filtered() {
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  return kernels.filter((i) => {
    if (!inLayer(i) || (state.phase && text("phase", i) !== state.phase)) return false;
    const others = ["layer", "source", "operation", "kind"].map((column) => text(column, i));
    const all = [columns.name[i], ...others].join(" ").toLowerCase();
    return words.every((word) => all.includes(word));
  });
}

function ordered(list) {
  const { value } = HEADER.find((column) => column.key === state.sort);
  const side = state.down ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b; // what is not known stands last
    return side * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y) || a - b;
  };
  return [...list].sort(compare);
}

function refresh() {
  shown = ordered(filtered());
  drawn = 0;
  byId("body").replaceChildren();
  byId("rows").scrollTop = 0;
  drawRows();
  const sums = [`${shown.length.toLocaleString("en")} of ${kernels.length.toLocaleString("en")}`];
  sums.push(`${percent(total(shown, weight) / whole)} of the ${data.timed ? "kernels’ time" : "bytes"}`);
  byId("count").textContent = sums.join(", ");
  for (const head of byId("header").children) {
    const here = head.dataset.key === state.sort;
    head.setAttribute("aria-sort", here ? (state.down ? "descending" : "ascending") : "none");
  }
  drawGraph();
  markRoofline();
}

function drawRows(limit = CHUNK) {
  const part = document.createDocumentFragment();
  for (const i of shown.slice(drawn, drawn + limit)) {
    const row = element("tr", { "data-kernel": i });
    for (const column of HEADER) {
      const cell = element("td", column.number ? { class: "number" } : {});
      const words = column.show ? column.show(i) : column.value(i);
      if (column.key === "name") cell.append(element("button", { type: "button", class: "link", title: words }, words));
      else cell.textContent = words;
      row.append(cell);
    }
    if (i === state.chosen) row.setAttribute("aria-selected", "true");
    part.append(row);
  }
  byId("body").append(part);
  drawn = Math.min(drawn + limit, shown.length);
  byId("more").hidden = drawn === shown.length;
}

function sortBy(key) {
  const column = HEADER.find((item) => item.key === key);
  state.down = state.sort === key ? !state.down : !!column.number;
  state.sort = key;
  refresh();
}

function startTable() {
  for (const column of HEADER) {
    const head = element("th", { scope: "col", "data-key": column.key, ...(column.number ? { class: "number" } : {}) });
    const button = element("button", { type: "button", class: "sort" }, column.title);
    button.addEventListener("click", () => sortBy(column.key));
    head.append(button);
    byId("header").append(head);
  }
  byId("body").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) choose(Number(row.dataset.kernel));
  });
  byId("body").addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = step && event.target.closest("tr")[step];
    if (!row) return;
    event.preventDefault();
    row.querySelector("button").focus();
  });
  const box = byId("rows");
  box.addEventListener("scroll", () => {
    if (drawn < shown.length && box.scrollTop + box.clientHeight > box.scrollHeight - 300) drawRows();
  });
  byId("more").addEventListener("click", () => drawRows());
  for (const phase of ["", ...new Set(kernels.map((i) => text("phase", i)))]) {
    byId("phase").append(element("option", { value: phase }, phase || "all"));
  }
  byId("phase").addEventListener("change", () => { state.phase = byId("phase").value; refresh(); });
  byId("find").addEventListener("input", () => { state.find = byId("find").value; refresh(); });
}

// Layer tree ---------------------------------------------------------------------------------------------------------

function makeTree() {
  const root = { path: "", name: "all", children: new Map(), kernels };
  for (const i of kernels) {
    let node = root;
    for (const name of layerName(text("layer", i)).split("/")) {
      const path = node.path ? `${node.path}/${name}` : name;
      if (!node.children.has(name)) node.children.set(name, { path, name, children: new Map(), kernels: [] });
      node = node.children.get(name);
      node.kernels.push(i);
    }
  }
  return root;
}

function drawTree(node, level, open) {
  const item = element("li", { role: "treeitem", "aria-level": level, tabindex: "-1", "data-path": node.path });
  const share = total(node.kernels, weight) / whole;
  const label = element("div", { class: "label" }, node.name);
  label.append(element("span", { class: "faint" }, `${node.kernels.length.toLocaleString("en")}, ${percent(share)}`));
  const bar = element("i", { "aria-hidden": "true" });
  bar.style.width = `${100 * share}%`;
  label.append(bar);
  item.append(label);
  item.setAttribute("aria-selected", String(node.path === state.layer));
  if (node.children.size) {
    item.setAttribute("aria-expanded", String(open));
    const list = element("ul", { role: "group" });
    const children = [...node.children.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    list.append(...children.map((child) => drawTree(child, level + 1, false)));
    item.append(list);
  }
  return item;
}

function chooseLayer(path) {
  state.layer = path;
  for (const item of byId("tree").querySelectorAll("[role=treeitem]")) {
    const here = item.dataset.path === path;
    item.setAttribute("aria-selected", String(here));
    item.tabIndex = here ? 0 : -1;
    const around = item.dataset.path === "" || path.startsWith(item.dataset.path + "/");
    if (around && item.hasAttribute("aria-expanded")) item.setAttribute("aria-expanded", "true");
  }
  refresh();
}

function treeKey(event) {
  const item = event.target.closest("[role=treeitem]");
  const visible = [...byId("tree").querySelectorAll("[role=treeitem]")].filter((other) => other.offsetParent);
  const place = visible.indexOf(item);
  const expanded = item.getAttribute("aria-expanded");
  let next = null;
  if (event.key === "ArrowDown") next = visible[place + 1];
  else if (event.key === "ArrowUp") next = visible[place - 1];
  else if (event.key === "Home") next = visible[0];
  else if (event.key === "End") next = visible[visible.length - 1];
  else if (event.key === "ArrowRight" && expanded === "false") item.setAttribute("aria-expanded", "true");
  else if (event.key === "ArrowRight" && expanded === "true") next = visible[place + 1];
  else if (event.key === "ArrowLeft" && expanded === "true") item.setAttribute("aria-expanded", "false");
  else if (event.key === "ArrowLeft") next = item.parentElement.closest("[role=treeitem]");
  else if (event.key === "Enter" || event.key === " ") chooseLayer(item.dataset.path);
  else return;
  event.preventDefault();
  if (!next) return;
  item.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function startTree() {
  const root = drawTree(makeTree(), 1, true);
  root.tabIndex = 0;
  byId("tree").append(root);
  byId("tree").addEventListener("keydown", treeKey);
  byId("tree").addEventListener("click", (event) => {
    const item = event.target.closest("[role=treeitem]");
    if (!item) return;
    const chosen = item.dataset.path === state.layer;
    if (item.hasAttribute("aria-expanded") && (chosen || item.getAttribute("aria-expanded") === "false")) {
      item.setAttribute("aria-expanded", String(item.getAttribute("aria-expanded") === "false"));
    }
    if (!chosen) chooseLayer(item.dataset.path);
  });
}
