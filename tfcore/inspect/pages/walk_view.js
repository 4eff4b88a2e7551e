"use strict";
// Pictures of tensors: heat maps, images, lines and bars on a canvas, with what is pointed at drawn above.

const IMAGES = ["input", "Normalization", "Resizing"];
const SERIES = 32, BANDS = 4;  // so many positions with so few features are lines, one above the other
const LONG = 200;  // a longer vector is a line, not bars
const CROWD = 40;  // more lights than these need no ground
const product = (sizes) => sizes.reduce((a, b) => a * b, 1);

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  return { plus: of("--plus"), minus: of("--minus"), zero: of("--zero"), text: style.getPropertyValue("--text"),
    faint: style.getPropertyValue("--faint"), mark: style.getPropertyValue("--mark"), back: style.getPropertyValue("--back"), line: style.getPropertyValue("--line") };
}

// How a tensor of a shape lies in a picture: {kind, width, height, cell(x, y) -> index or null, spot(index) -> [x, y]}.
// Indices are those of the whole tensor; shown are the kept ones. slice: one plane, or null for all side by side.
function layout(shape, axes, every, { slice = null, image = false } = {}) {
  const sizes = kept(shape, every), up = (index) => index.map((i, axis) => i * every[axis]);
  const down = (index) => index.map((i, axis) => i / every[axis]);
  const inside = (index) => down(index).every((i) => Number.isInteger(i));
  if (shape.length < 2 || (shape.length === 2 && shape[1] <= BANDS && shape[0] >= SERIES)) {
    const series = shape.length === 2, length = sizes[0] ?? 1, bands = series ? sizes[1] : 1;
    return { kind: series || length > LONG ? "line" : "bars", aspect: "", width: length, height: bands, planes: 1,
      cell: (x, y) => (series ? up([x, y]) : shape.length ? up([x]) : []),
      spot: (index) => (inside(index) ? [down(index)[0] ?? 0, down(index)[1] ?? 0] : null) };
  }
  let rows, columns, planes, to, from, whole;  // whole: rows and columns before thinning
  if (shape.length === 2) {
    [rows, columns, planes, whole] = [sizes[0], sizes[1], 1, shape];
    [to, from] = [(p, r, c) => [r, c], ([r, c]) => [0, r, c]];
  } else if (shape.length === 3 && axes.startsWith("N")) {
    [planes, rows, columns] = sizes;
    whole = shape.slice(1);
    [to, from] = [(p, r, c) => [p, r, c], (index) => index];
  } else if (shape.length === 3 && axes) {
    [rows, columns, planes] = sizes;
    whole = shape;
    [to, from] = [(p, r, c) => [r, c, p], ([r, c, p]) => [p, r, c]];
  } else if (shape.length === 4) {
    const last = sizes[3];
    [rows, columns, planes, whole] = [sizes[0], sizes[1], sizes[2] * last, shape];
    [to, from] = [(p, r, c) => [r, c, Math.floor(p / last), p % last], ([r, c, k, g]) => [k * last + g, r, c]];
  } else {  // a parameter of three axes: its last two side by side
    const last = product(sizes.slice(2)), widths = sizes.slice(2);
    [rows, columns, planes, whole] = [sizes[0], sizes[1] * last, 1, [shape[0], product(shape.slice(1))]];
    [to, from] = [(p, r, c) => [r, Math.floor(c / last), ...(widths.length ? [c % last] : [])],
      (index) => [0, index[0], index[1] * last + (index[2] ?? 0)]];
  }
  const rgb = image && shape.length === 3 && shape[2] === 3 && slice === null;
  const shown = rgb || slice !== null ? 1 : planes;
  const across = shown <= 3 ? shown : Math.max(1, Math.min(shown, Math.round(Math.sqrt(shown * whole[0] / whole[1])) || 1));
  const down_ = Math.ceil(shown / across), gap = shown > 1 ? 1 : 0;
  return {
    kind: rgb ? "image" : "map", planes, aspect: [across * (whole[1] + gap) - gap, down_ * (whole[0] + gap) - gap], width: across * (columns + gap) - gap, height: down_ * (rows + gap) - gap,
    cell(x, y) {
      const [p, r, c] = [Math.floor(y / (rows + gap)) * across + Math.floor(x / (columns + gap)), y % (rows + gap), x % (columns + gap)];
      return p >= shown || r >= rows || c >= columns ? null : up(to(slice ?? p, r, c));
    },
    spot(index) {
      if (!inside(index)) return null;
      const [p, r, c] = from(down(index)), n = rgb ? 0 : slice === null ? p : p === slice ? 0 : -1;
      return n < 0 ? null : [(n % across) * (columns + gap) + c, Math.floor(n / across) * (rows + gap) + r];
    },
  };
}

function spread(values) {
  let least = Infinity, most = -Infinity;
  for (const value of values) if (Number.isFinite(value)) { if (value < least) least = value; if (value > most) most = value; }
  return least > most ? [0, 0] : [least, most];
}

// What the colours mean: [at no colour, at full colour]; of values of both signs the same either way.
function bounds([least, most]) {
  if (least < 0) return [0, Math.max(-least, Math.abs(most)) || 1];
  return [least > most / 2 && most > least ? least : 0, most || 1];  // of values that are all alike, what tells them apart
}

// Paint values (kept numbers in row-major order) as the layout says.
function paint(canvas, values, shape, every, plan) {
  const palette = colours(), [least, most] = spread(values), [none, full] = bounds([least, most]);
  canvas.classList.toggle("smooth", plan.kind === "line" || plan.kind === "bars");
  if (plan.kind === "line" || plan.kind === "bars") return paintLine(canvas, values, plan, palette, least, most);
  canvas.width = plan.width;
  canvas.height = plan.height;
  const context = canvas.getContext("2d"), picture = context.createImageData(plan.width, plan.height), out = picture.data;
  for (let y = 0, o = 0; y < plan.height; y++) for (let x = 0; x < plan.width; x++, o += 4) {
    const index = plan.cell(x, y);
    if (index === null) continue;
    const where = place(index, shape, every), value = values[where];
    out[o + 3] = 255;
    if (plan.kind === "image") {
      for (let c = 0; c < 3; c++) out[o + c] = 255 * (values[where + c] - least) / (most - least || 1);
    } else if (Number.isFinite(value)) {
      const share = Math.sqrt(Math.max(Math.abs(value) - none, 0) / (full - none)), end = value < 0 ? palette.minus : palette.plus;
      for (let c = 0; c < 3; c++) out[o + c] = palette.zero[c] + share * (end[c] - palette.zero[c]);
    } else [out[o], out[o + 1], out[o + 2]] = [255, 0, 255];
  }
  context.putImageData(picture, 0, 0);
}

function paintLine(canvas, values, plan, palette, least, most) {
  [canvas.width, canvas.height] = [640, 200];
  const context = canvas.getContext("2d"), low = Math.min(least, 0), high = Math.max(most, 0), band = 200 / plan.height;
  for (let b = 0; b < plan.height; b++) {
    const y = (value) => band * (b + 1) - 3 - (band - 6) * (value - low) / (high - low || 1);
    const own = values.filter((_, i) => i % plan.height === b), step = canvas.width / own.length;
    context.strokeStyle = palette.faint;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, y(0));
    context.lineTo(640, y(0));
    context.stroke();
    if (plan.kind === "line") {
      context.strokeStyle = `rgb(${palette.plus})`;
      context.lineWidth = 2;
      context.beginPath();
      own.forEach((value, i) => context.lineTo((i + 0.5) * step, y(value)));
      context.stroke();
    } else own.forEach((value, i) => {
      context.fillStyle = Number.isFinite(value) ? `rgb(${value < 0 ? palette.minus : palette.plus})` : "#f0f";
      context.fillRect(i * step, Math.min(y(value), y(0)), Math.max(step - 1, 0.5), Math.max(Math.abs(y(value) - y(0)), 0.5));
    });
  }
}

// A picture that can be pointed at. options: {title, values, shape, axes, every, image, slice, hover(index), pick(index)}.
function mapOf(options) {
  const { values, shape, axes, every } = options, plan = layout(shape, axes, every, options);
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const box = document.createElement("div"), base = document.createElement("canvas"), over = document.createElement("canvas");
  box.className = "map";
  over.className = "over";
  over.tabIndex = options.pick ? 0 : -1;
  over.setAttribute("role", "img");
  over.setAttribute("aria-label", `${options.title}, arrows move, Enter picks`);
  caption.textContent = options.title;
  paint(base, values, shape, every, plan);
  const line = plan.kind === "line" || plan.kind === "bars";
  if (!line) {
    const [wide, high] = plan.aspect;
    box.style.aspectRatio = `${wide} / ${high}`;
    box.style.maxWidth = `min(100%, ${Math.max(12, Math.min(wide * 1.4, 30 * wide / high, 62))}rem)`;
  }
  box.append(base, over);
  figure.append(caption, box, scaleOf(values, plan));
  let lit = [], pointed = null, asked = false;

  function redraw() {
    asked = false;
    const ratio = devicePixelRatio, width = Math.round(box.clientWidth * ratio), height = Math.round(box.clientHeight * ratio);
    if (over.width !== width || over.height !== height) [over.width, over.height] = [width, height];
    const context = over.getContext("2d"), palette = colours();
    context.clearRect(0, 0, width, height);
    const across = width / plan.width, down = height / plan.height;
    const ring = (index, colour, thick) => {
      const spot = plan.spot(index);
      if (spot === null) return;
      const [x, y, w, h] = [spot[0] * across, spot[1] * down, Math.max(across, 3 * ratio), Math.max(down, 3 * ratio)];
      for (const [ink, width] of [[palette.back, thick + 2], [colour, thick]]) {  // on a ground that sets it off
        if (ink === palette.back && lit.length > CROWD) continue;
        context.lineWidth = width * ratio;
        context.strokeStyle = ink;
        context.strokeRect(x, y, w, h);
      }
    };
    // All of it lit would only hide it.
    if (lit.length < plan.width * plan.height) for (const index of lit) ring(index, palette.mark, 1.5);
    if (pointed) ring(pointed, palette.text, 2);
  }
  function later() {
    if (!asked) requestAnimationFrame(redraw);
    asked = true;
  }
  function point(index) {
    pointed = index;
    later();
    options.hover?.(index);
  }
  over.addEventListener("pointermove", (event) => {
    const x = Math.floor(event.offsetX / over.clientWidth * plan.width);
    const y = Math.floor(event.offsetY / over.clientHeight * plan.height);
    const index = x < 0 || y < 0 || x >= plan.width || y >= plan.height ? null : plan.cell(x, y);
    if (index) point(index);
  });
  over.addEventListener("click", () => pointed && options.pick?.(pointed));
  over.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter" || event.key === " ") {
      if (pointed) options.pick?.(pointed);
    } else if (step) {
      let [x, y] = (pointed && plan.spot(pointed)) ?? [-step[0], -step[1]];
      do [x, y] = [x + step[0], y + step[1]];
      while (x >= 0 && y >= 0 && x < plan.width && y < plan.height && plan.cell(x, y) === null);
      if (x >= 0 && y >= 0 && x < plan.width && y < plan.height) point(plan.cell(x, y));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  new ResizeObserver(later).observe(box);
  return { figure, plan, light(indices) { lit = indices; later(); }, mark(index) { pointed = index; later(); } };
}

function scaleOf(values, plan) {
  const [least, most] = spread(values), box = document.createElement("div"), bar = document.createElement("i");
  box.className = "scale";
  if (least >= 0) bar.className = "plus";
  const [none, full] = bounds([least, most]), ends = plan.kind === "map" ? [least < 0 ? -full : none, full] : [least, most];
  const texts = ends.map((value) => Object.assign(document.createElement("span"), { textContent: short(value) }));
  box.append(texts[0], plan.kind === "map" ? bar : "…", texts[1]);
  return box;
}
