"use strict";
// The numbers of the page: tensors by their place in one compressed block.

const DATA = JSON.parse(document.getElementById("data").textContent);
const STOPS = DATA.stops;
let block = null;  // ArrayBuffer of all numbers
const decoded = new Map();

async function unpack() {
  const text = atob(document.getElementById("numbers").textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  block = await new Response(stream).arrayBuffer();
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

// A kept tensor as Float32Array. Its bytes lie plane by plane.
function tensor(number) {
  if (decoded.has(number)) return decoded.get(number);
  const [offset, count, size, factor] = DATA.tensors[number];
  const planes = new Uint8Array(block, offset, count * size), out = new Float32Array(count);
  if (size === 4) {
    const bytes = new Uint8Array(out.buffer);
    for (let p = 0; p < 4; p++) for (let i = 0; i < count; i++) bytes[4 * i + p] = planes[p * count + i];
  } else {
    for (let i = 0; i < count; i++) out[i] = factor * half(planes[i] | (planes[count + i] << 8));
  }
  decoded.set(number, out);
  return out;
}

const kept = (shape, every) => shape.map((size, axis) => Math.ceil(size / every[axis]));

// The place of an index in a tensor of which every n-th is kept, or -1 where it was thinned away or lies outside.
function place(index, shape, every) {
  let at = 0;
  for (let axis = 0; axis < shape.length; axis++) {
    const i = index[axis];
    if (i < 0 || i >= shape[axis] || i % every[axis]) return -1;
    at = at * Math.ceil(shape[axis] / every[axis]) + i / every[axis];
  }
  return at;
}

// Of each axis, the step in which a stop's values or gradients are kept.
const steps = (stop, which) => (which === "gradient" ? STOPS[stop].steps : STOPS[stop].every);

// What a stop holds in a frame; which: "value" or "gradient". null: it has none.
function numbers(frame, stop, which) {
  const number = DATA.values[frame][stop][which];
  return number === undefined ? null : tensor(number);
}

// One number of a stop; undefined where it was thinned away.
function at(frame, stop, index, which = "value") {
  const { shape } = STOPS[stop], where = place(index, shape, steps(stop, which)), all = numbers(frame, stop, which);
  return where < 0 || all === null ? undefined : all[where];
}

// One number of a stop's parameter, or of a parameter's gradient.
function parameter(frame, stop, name, index, gradient = false) {
  const which = STOPS[stop].parameters.findIndex((one) => one.name === name);
  if (which < 0) return undefined;
  const about = STOPS[stop].parameters[which], number = DATA.values[frame][stop].parameters[which][gradient ? 1 : 0];
  const where = place(index, about.shape, gradient ? about.steps : about.every);
  return where < 0 || number === null ? undefined : tensor(number)[where];
}

function short(value) {
  if (value === undefined || value === null) return "?";
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

const indexed = (stop, index) => `${STOPS[stop].name}[${index.join(", ")}]`;
