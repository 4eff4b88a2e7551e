"use strict";
// What a reader touches: the path of stops, the chosen stop, the number picked in it, the slider over walks.

const get = (id) => document.getElementById(id);
const make = (tag, text, parts = {}) => Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, parts);
const state = { frame: 0, stop: 0, slice: null, picked: null, difference: false };
let shown = [];  // the maps of the chosen stop: [which, map]

// The numbers to be drawn: of this walk, or how far they are from the first's.
function drawn(stop, which) {
  const own = numbers(state.frame, stop, which);
  if (!state.difference || own === null) return own;
  const first = numbers(0, stop, which);
  return own.map((value, i) => value - first[i]);
}

const isImage = (stop) => !state.difference && IMAGES.includes(STOPS[stop].kind === "input" ? "input" : STOPS[stop].of);

function thumbnail(canvas) {
  const stop = Number(canvas.dataset.stop), values = drawn(stop, canvas.dataset.which), { shape, axes } = STOPS[stop];
  if (values === null) return;
  const every = steps(stop, canvas.dataset.which);
  const image = canvas.dataset.which === "value" && isImage(stop);
  paint(canvas, values, shape, every, layout(shape, axes, every, { image }));
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    entry.target.dataset.visible = entry.isIntersecting ? "yes" : "";
    if (entry.isIntersecting && entry.target.dataset.drawn !== stamp()) {
      entry.target.dataset.drawn = stamp();
      thumbnail(entry.target);
    }
  }
}, { rootMargin: "200px" });
const dark = matchMedia("(prefers-color-scheme: dark)");
const stamp = () => `${state.frame} ${state.difference} ${dark.matches}`;

function buildPath() {
  STOPS.forEach((stop, i) => {
    const button = make("button", undefined, { type: "button", tabIndex: -1 });
    button.setAttribute("role", "option");
    const end = stop.name.includes("(") ? stop.name.indexOf("(") : stop.name.length;
    const cut = Math.max(stop.name.lastIndexOf("/", end), stop.name.lastIndexOf(": "));
    const label = make("span");
    const broken = (text) => text.replace(/[/(]/g, "$&\u200b");  // where a line may end
    label.append(make("em", broken(stop.name.slice(0, cut + 1))), broken(stop.name.slice(cut + 1)));
    button.title = stop.name;
    button.append(label);
    for (const which of ["value", "gradient"]) {
      const canvas = make("canvas");
      [canvas.dataset.stop, canvas.dataset.which, canvas.width, canvas.height] = [i, which, 1, 1];
      button.append(canvas);
      seen.observe(canvas);
    }
    button.addEventListener("click", () => choose(i));
    get("path").append(button);
  });
  get("path").addEventListener("keydown", (event) => {
    const to = { ArrowRight: state.stop + 1, ArrowLeft: state.stop - 1, Home: 0, End: STOPS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(Math.min(Math.max(to, 0), STOPS.length - 1));
    get("path").children[state.stop].focus();
  });
}

function choose(stop, picked = null) {
  get("path").children[state.stop].removeAttribute("aria-selected");
  get("path").children[state.stop].tabIndex = -1;
  Object.assign(state, { stop, picked, slice: null });
  const button = get("path").children[stop];
  button.setAttribute("aria-selected", "true");
  button.tabIndex = 0;
  const path = get("path"), middle = button.offsetLeft - path.offsetLeft - (path.clientWidth - button.clientWidth) / 2;
  path.scrollTo({ left: middle });
  const about = STOPS[stop];
  get("name").textContent = about.name;
  get("formula").textContent = about.formula;
  get("note").textContent = [about.note, about.also.length ? `also the output of ${about.also.join(", ")}` : ""].filter(Boolean).join("; ");
  const plan = layout(about.shape, about.axes, about.every, {});
  get("slice-label").hidden = plan.planes < 2;
  get("slice").replaceChildren(make("option", "all", { value: "" }),
    ...range(plan.planes).map((i) => make("option", String(i), { value: i })));
  drawStop();
  drawCode(about);
  drawTimes(about);
  remember();
}

function drawStop() {
  const { stop } = state, about = STOPS[stop], own = DATA.values[state.frame][stop];
  shown = [];
  const figures = [["value", "forward"], ["gradient", "backward: the loss's gradient"]].map(([which, title]) => {
    const values = drawn(stop, which);
    if (values === null) return make("p", "The loss does not depend on it: no gradient.", { className: "faint" });
    const map = mapOf({ title: state.difference ? `${title}, less the first's` : title, values, ...about, every: steps(stop, which),
      image: which === "value" && isImage(stop), slice: state.slice, hover: (index) => hover(index), pick: (index) => pick(index) });
    shown.push(map);
    return map.figure;
  });
  get("maps").replaceChildren(...figures);
  get("hover").textContent = "";
  drawNamed(about);
  const fact = (name, text) => [make("dt", name), make("dd", text)];
  const measures = (of) => of.min === null ? "nothing finite" :
    `${short(of.min)} … ${short(of.max)}, mean ${short(of.mean)}, ${(100 * of.zeros).toFixed(1)} % zeros` + (of.nonfinite ? `, ${of.nonfinite} not finite` : "");
  const axes = about.axes ? ` (${[...about.axes].join(", ")})` : "";
  const thinned = about.every.some((step) => step > 1) ? `; kept: every ${about.every.join(", ")} of its axes` : "";
  get("facts").replaceChildren(
    ...fact("shape", `${about.shape.join(" × ") || "one number"}${axes}${thinned}`), ...fact("computed by", about.of || "the reader"),
    ...fact("forward", measures(own.about)), ...(own.back ? fact("backward", measures(own.back)) : []));
  drawParameters(about, own);
  if (state.picked) pick(state.picked);
  else get("why").hidden = true;
}

function drawNamed(about) {
  const isNamed = about.shape.length === 1 && about.shape[0] === DATA.classes.length && (about.name === "probabilities" || about.name === "logits");
  get("named").replaceChildren();
  if (!isNamed) return;
  const values = drawn(state.stop, "value"), gradient = numbers(state.frame, state.stop, "gradient");
  const top = Math.max(...values.map(Math.abs)) || 1, order = range(values.length).sort((i, j) => values[j] - values[i]);
  const table = make("table");
  for (const i of order) {
    const row = make("tr"), bar = make("i", undefined, { className: values[i] < 0 ? "minus" : "" }), cell = make("td");
    bar.style.width = `${100 * Math.abs(values[i]) / top}%`;
    cell.append(bar);
    row.append(make("td", DATA.classes[i]), cell, make("td", short(values[i])), make("td", `gradient ${short(gradient?.[i])}`));
    row.addEventListener("click", () => pick([i]));
    table.append(row);
  }
  const box = make("div", undefined, { className: "scrolled" });
  box.append(table);
  get("named").append(box);
}

function hover(index) {
  const about = STOPS[state.stop], [value, gradient] = ["value", "gradient"].map((which) => at(state.frame, state.stop, index, which));
  let text = `[${index.map((i, axis) => `${about.axes[axis] ?? ""} ${i}`.trim()).join(", ")}] = ${short(value)}`;
  if (isImage(state.stop) && state.slice === null && index.length === 3) {
    text = `[H ${index[0]}, W ${index[1]}] = ${range(3).map((c) => short(at(state.frame, state.stop, [index[0], index[1], c]))).join(", ")}`;
  }
  if (about.shape.length === 1 && about.shape[0] === DATA.classes.length) text = `${DATA.classes[index[0]]} ${text}`;
  if (state.difference) text += `, in the first ${short(at(0, state.stop, index))}`;
  get("hover").textContent = `${text}; gradient ${gradient === undefined ? "none kept here" : short(gradient)}`;
  for (const map of shown) map.mark(index);
}

function pick(index) {
  state.picked = index;
  hover(index);
  const found = explain(state.frame, state.stop, index), lights = new Map();
  get("why").hidden = false;
  get("arithmetic").textContent = `${indexed(state.stop, index)} = ${short(at(state.frame, state.stop, index))}\n${found.text}`;
  for (const [stop, indices] of found.lights ?? []) lights.set(stop, [...(lights.get(stop) ?? []), ...indices]);
  remember();
  get("sources").replaceChildren(...[...lights].map(([stop, indices]) => source(stop, indices)));
}

function source(stop, indices) {
  const { shape, axes, every, name } = STOPS[stop], image = isImage(stop);
  const planes = layout(shape, axes, every, { image });
  // One plane where all lights are in it: the others say nothing.
  const plane = (index) => (axes.startsWith("N") && shape.length === 3 ? index[0] : shape.length === 3 && axes ? index[2] : 0);
  const one = !image && shape.length === 3 && planes.planes > 1 && indices.every((index) => plane(index) === plane(indices[0]));
  const map = mapOf({ title: name, values: numbers(state.frame, stop, "value"), shape, axes, every, image,
    slice: one ? plane(indices[0]) : null, pick: (index) => choose(stop, index) });
  map.light(indices);
  const title = make("button", one ? `${name}, part ${plane(indices[0])}` : name, { type: "button", className: "link" });
  title.addEventListener("click", () => { choose(stop, indices[0]); get("path").children[stop].focus(); });
  map.figure.querySelector("figcaption").replaceChildren(title);
  return map.figure;
}

function drawParameters(about, own) {
  const maps = about.parameters.flatMap((one, i) => {
    const [value, gradient] = own.parameters[i];
    const of = (number, every, title) => mapOf({ title: `${title} ${one.shape.join(" × ")}`, values: tensor(number), shape: one.shape, axes: "", every }).figure;
    return [of(value, one.every, one.name), ...(gradient === null ? [] : [of(gradient, one.steps, `gradient of ${one.name}`)])];
  });
  get("parameters").replaceChildren(...(maps.length ? [make("h3", "Parameters")] : []), ...maps);
  if (maps.length) get("parameters").firstChild.style.gridColumn = "1 / -1";
}

function drawCode(about) {
  const part = (title, number) => {
    if (number === null) return [];
    const { file, line, first, lines } = DATA.places[number], code = make("pre");
    lines.forEach((text, i) => {
      const row = make(first + i === line ? "mark" : "span", `${first + i}  ${text}`);
      code.append(row, "\n");
    });
    return [make("h3", `${title}: ${file}:${line}`), code];
  };
  get("code").replaceChildren(...part("Called by", about.call), ...part("The operation", about.source));
}

function drawTimes(about) {
  const kernels = DATA.times[about.name] ?? [];
  const rows = kernels.map(([name, phase, us]) => {
    const row = make("tr");
    row.append(make("td", name), make("td", phase), make("td", `${short(us)} µs`, { className: "number" }));
    return row;
  });
  const table = make("table");
  table.append(...rows);
  get("times").replaceChildren(...(rows.length ? [make("h3", "Kernels of the compiled step"), table] : []));
}

function drawFrame() {
  const frame = DATA.frames[state.frame];
  get("said").textContent = frame.said;
  get("about").textContent = DATA.frames.length > 1 ? `${state.frame + 1} of ${DATA.frames.length}: ${frame.about}` : frame.about;
  get("bad").hidden = frame.bad === null;
  get("bad").textContent = `The first NaN or infinity stands in ${frame.bad}.`;
  STOPS.forEach((stop, i) => get("path").children[i].classList.toggle("bad", stop.name === frame.bad));
  redrawPath();
  drawStop();
}

function redrawPath() {
  for (const canvas of get("path").querySelectorAll("canvas")) {
    if (canvas.dataset.visible && canvas.dataset.drawn !== stamp()) {
      canvas.dataset.drawn = stamp();
      thumbnail(canvas);
    } else if (!canvas.dataset.visible) canvas.dataset.drawn = "";
  }
}

// The page's address names the stop and the number that was picked: page.html#involutions/0[17, 14, 1].
function remember() {
  const text = STOPS[state.stop].name + (state.picked ? `[${state.picked.join(",")}]` : "");
  history.replaceState(null, "", `#${encodeURIComponent(text)}`);
}

function recall() {
  const [, name, index] = decodeURIComponent(location.hash.slice(1)).match(/^(.*?)(?:\[([\d, ]*)\])?$/) ?? [];
  const stop = STOPS.findIndex((one) => one.name === name), shape = stop < 0 ? [] : STOPS[stop].shape;
  const picked = index === undefined ? null : index.split(",").filter((text) => text.trim()).map(Number);
  const fits = picked !== null && picked.length === shape.length && picked.every((i, axis) => i < shape[axis]);
  choose(Math.max(stop, 0), fits ? picked : null);
}

async function start() {
  await unpack();
  get("kept").textContent = `How the numbers are kept: ${DATA.note}. Colours go by the square root, so that small numbers show.`;
  get("frames").hidden = DATA.frames.length < 2;
  get("frame").max = DATA.frames.length - 1;
  get("frame").addEventListener("input", () => { state.frame = Number(get("frame").value); drawFrame(); });
  get("difference").addEventListener("change", () => { state.difference = get("difference").checked; drawFrame(); });
  get("slice").addEventListener("change", () => {
    state.slice = get("slice").value === "" ? null : Number(get("slice").value);
    drawStop();
  });
  dark.addEventListener("change", drawFrame);
  buildPath();
  recall();
  drawFrame();
  addEventListener("hashchange", recall);
  document.body.dataset.ready = "yes";
}
start();
