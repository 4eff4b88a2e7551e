"use strict";
// How a number comes about: its arithmetic, written out from the numbers that it was computed from.
// explain(frame, stop, index) -> {text, total, lights: [[stop, [index, ...]], ...]}, or {text} where it cannot be said.

const TERMS = 10;  // written out; the rest is summed and counted

const dot = (pairs) => pairs.reduce((sum, [a, b]) => sum + a * b, 0);
const known = (values) => values.every((value) => value !== undefined);
const range = (count) => Array.from({ length: count }, (_, i) => i);

// "a · b + … + (n more: r)", the largest products, in their order.
function written(pairs) {
  const order = range(pairs.length).sort((i, j) => Math.abs(pairs[j][0] * pairs[j][1]) - Math.abs(pairs[i][0] * pairs[i][1]));
  const shown = order.slice(0, TERMS).sort((i, j) => i - j);
  const signed = (value) => (value < 0 || Object.is(value, -0) ? `(${short(value)})` : short(value));
  let text = shown.map((i) => `${signed(pairs[i][0])} · ${signed(pairs[i][1])}`).join(" + ");
  if (pairs.length > TERMS) text += ` + ${pairs.length - TERMS} more: ${short(dot(order.slice(TERMS).map((i) => pairs[i])))}`;
  return text;
}

function products(pairs, bias, lights, factor = 1) {
  if (!known(pairs.flat())) return null;
  const total = factor * dot(pairs) + (bias ?? 0);
  let text = written(pairs);
  if (factor !== 1) text = `${short(factor)} · (${text})`;
  if (bias !== undefined) text += ` + bias ${short(bias)}`;
  return { text: `${text} = ${short(total)}`, total, lights };
}

function padding(size, rule) {  // zeros before an axis, as TensorFlow's SAME has them
  if (rule.padding === "VALID") return 0;
  return Math.floor(Math.max((Math.ceil(size / rule.stride) - 1) * rule.stride + rule.kernel_size - size, 0) / 2);
}

// The places of a window over the input: [row, column, tap], those of the padding left out.
function windowOf(source, index, settings) {
  const [height, width] = STOPS[source].shape, size = settings.kernel_size, found = [];
  const top = index[0] * settings.stride - padding(height, settings);
  const left = index[1] * settings.stride - padding(width, settings);
  for (let u = 0; u < size; u++) for (let v = 0; v < size; v++) {
    const row = top + u, column = left + v;
    if (row >= 0 && row < height && column >= 0 && column < width) found.push([row, column, u, v]);
  }
  return found;
}

function erf(x) {  // Abramowitz and Stegun 7.1.26: to 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const FUNCTIONS = {
  relu: [(x) => Math.max(x, 0), (x) => `max(${x}, 0)`],
  gelu: [(x) => 0.5 * x * (1 + erf(x / Math.SQRT2)), (x) => `½ · ${x} · (1 + erf(${x} / √2))`],
  sigmoid: [(x) => 1 / (1 + Math.exp(-x)), (x) => `1 / (1 + exp(−${x}))`],
  tanh: [Math.tanh, (x) => `tanh(${x})`],
};

const RULES = {
  dense(f, s, index, [x]) {
    const lead = index.slice(0, -1), unit = index.at(-1), inputs = STOPS[x].shape.at(-1);
    const bias = parameter(f, s, "bias", [unit]), lights = [[x, range(inputs).map((i) => [...lead, i])]];
    const extra = DATA.values[f][s].extra;
    if (!extra) {
      return products(range(inputs).map((i) => [at(f, x, [...lead, i]), parameter(f, s, "kernel", [i, unit])]), bias, lights);
    }
    const count = extra.places === undefined ? 0 : tensor(extra.places).length / STOPS[s].shape[0];
    const places = range(count).map((i) => tensor(extra.places)[unit * count + i]);
    const pairs = places.map((i, n) => [at(f, x, [i]), tensor(extra.weights)[unit * count + n]]);
    if (!known(pairs.flat())) return null;
    const rest = tensor(extra.rest)[unit], total = dot(pairs) + rest + (bias ?? 0);
    const added = bias === undefined ? "" : ` + bias ${short(bias)}`;
    const text = `${written(pairs)} + ${inputs - count} more: ${short(rest)}${added} = ${short(total)}`;
    return { text, total, lights: [[x, places.map((i) => [i])]] };
  },
  projection(f, s, [n, t, d], [x]) {
    const inputs = range(STOPS[x].shape.at(-1));
    const pairs = inputs.map((i) => [at(f, x, [t, i]), parameter(f, s, "kernel", [i, n, d])]);
    return products(pairs, parameter(f, s, "bias", [n, d]), [[x, inputs.map((i) => [t, i])]]);
  },
  merge(f, s, [t, d], [x]) {
    const [heads, , width] = STOPS[x].shape;
    const places = range(heads).flatMap((n) => range(width).map((e) => [n, e]));
    const pairs = places.map(([n, e]) => [at(f, x, [n, t, e]), parameter(f, s, "kernel", [n, e, d])]);
    return products(pairs, parameter(f, s, "bias", [d]), [[x, places.map(([n, e]) => [n, t, e])]]);
  },
  convolution(f, s, index, [x], settings) {
    const filter = index.length === 4 ? index[2] * STOPS[s].shape[3] + index[3] : index[2];
    const channels = range(STOPS[x].shape[2]), taps = windowOf(x, index, settings);
    const pairs = taps.flatMap(([i, j, u, v]) =>
      channels.map((c) => [at(f, x, [i, j, c]), parameter(f, s, "kernel", [u, v, c, filter])]));
    const bias = settings.bias ? parameter(f, s, "bias", [filter]) : undefined;
    return products(pairs, bias, [[x, taps.flatMap(([i, j]) => channels.map((c) => [i, j, c]))]]);
  },
  involution(f, s, [i, j, c], [x, kernel], settings) {
    const groups = STOPS[kernel].shape[3], channels = STOPS[x].shape[2];
    const group = settings.group_order === "modulo" ? c % groups : Math.floor(c / (channels / groups));
    const taps = windowOf(x, [i, j], { ...settings, padding: "SAME" });
    const tap = ([, , u, v]) => [i, j, u * settings.kernel_size + v, group];
    const pairs = taps.map((one) => [at(f, kernel, tap(one)), at(f, x, [one[0], one[1], c])]);
    return products(pairs, undefined, [[kernel, taps.map(tap)], [x, taps.map(([row, column]) => [row, column, c])]]);
  },
  score(f, s, index, [q, k], settings) {
    const head = index.slice(0, -2), [t, key] = index.slice(-2), width = range(STOPS[q].shape.at(-1));
    const row = (i, d) => [...head, i, d];
    const pairs = width.map((d) => [at(f, q, row(t, d)), at(f, k, row(key, d))]);
    return products(pairs, undefined, [[q, width.map((d) => row(t, d))], [k, width.map((d) => row(key, d))]], settings.scale);
  },
  softmax(f, s, index, [x]) {
    const every = STOPS[s].every.slice(0, -1), shape = STOPS[s].shape.slice(0, -1);
    const score = at(f, x, index), sum = tensor(DATA.values[f][s].extra.log_sum)[place(index.slice(0, -1), shape, every)];
    const lights = [[x, range(STOPS[x].shape.at(-1)).map((i) => [...index.slice(0, -1), i])]];
    const rule = STOPS[x].rule;
    if (rule?.kind === "score") lights.push(...RULES.score(f, x, index, rule.inputs, rule.settings)?.lights ?? []);
    const total = Math.exp(score - sum), before = rule?.kind === "score" ? RULES.score(f, x, index, rule.inputs, rule.settings) : null;
    const text = `exp(${short(score)} − ${short(sum)}) = ${short(total)}, where ${short(sum)} = log Σ exp of the row's `
      + `${STOPS[x].shape.at(-1)} numbers` + (before ? `\nand the score: ${before.text}` : "");
    return { text, total, lights };
  },
  mix(f, s, index, [w, v]) {
    const head = index.slice(0, -2), [t, e] = index.slice(-2), keys = range(STOPS[v].shape.at(-2));
    const pairs = keys.map((key) => [at(f, w, [...head, t, key]), at(f, v, [...head, key, e])]);
    return products(pairs, undefined, [[w, keys.map((key) => [...head, t, key])], [v, keys.map((key) => [...head, key, e])]]);
  },
  "layer norm"(f, s, index, [x], settings) {
    const lead = index.slice(0, -1), width = range(STOPS[x].shape.at(-1)), row = width.map((i) => at(f, x, [...lead, i]));
    if (!known(row)) return null;
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length, c = index.at(-1);
    return standard(row[c], mean, variance, settings.epsilon, parameter(f, s, "gamma", [c]), parameter(f, s, "beta", [c]),
      [[x, width.map((i) => [...lead, i])]]);
  },
  "batch norm"(f, s, index, [x], settings) {
    const c = [index.at(-1)], of = (name) => parameter(f, s, name, c);
    return standard(at(f, x, index), of("moving_mean"), of("moving_variance"), settings.epsilon, of("gamma"), of("beta"),
      [[x, [index]]]);
  },
  normalization(f, s, index, [x], settings) {
    const c = [index.at(-1)], mean = parameter(f, s, "mean", c), variance = parameter(f, s, "variance", c);
    const value = at(f, x, index), total = (value - mean) / Math.max(Math.sqrt(variance), settings.epsilon);
    return { text: `(${short(value)} − ${short(mean)}) / √${short(variance)} = ${short(total)}`, total, lights: [[x, [index]]] };
  },
  sum(f, s, index, [a, b]) {
    const cut = (stop) => index.slice(index.length - STOPS[stop].shape.length);
    const [p, q] = [at(f, a, cut(a)), at(f, b, cut(b))], total = p + q;
    return { text: `${short(p)} + ${short(q)} = ${short(total)}`, total, lights: [[a, [cut(a)]], [b, [cut(b)]]] };
  },
  bias(f, s, index, [x]) {
    const value = at(f, x, index), bias = parameter(f, s, "bias", [index.at(-1)]), total = value + bias;
    return { text: `${short(value)} + bias ${short(bias)} = ${short(total)}`, total, lights: [[x, [index]]] };
  },
  "max pool"(f, s, [i, j, c], [x], { size }) {
    const places = range(size * size).map((n) => [i * size + Math.floor(n / size), j * size + (n % size), c]);
    const values = places.map((one) => at(f, x, one)), total = Math.max(...values);
    return { text: `max(${values.map(short).join(", ")}) = ${short(total)}`, total, lights: [[x, places]] };
  },
  mean(f, s, [c], [x]) {
    const lead = STOPS[x].shape.slice(0, -1), count = lead.reduce((a, b) => a * b, 1);
    const places = range(count).map((n) => (lead.length === 1 ? [n, c] : [Math.floor(n / lead[1]), n % lead[1], c]));
    return products(places.map((one) => [1, at(f, x, one)]), undefined, [[x, places]], 1 / count);
  },
  reshape(f, s, index, [x]) {
    let flat = STOPS[s].shape.reduce((sum, size, axis) => sum * size + index[axis], 0);
    const source = STOPS[x].shape.map(() => 0);
    for (let axis = source.length - 1; axis >= 0; axis--) {
      source[axis] = flat % STOPS[x].shape[axis];
      flat = Math.floor(flat / STOPS[x].shape[axis]);
    }
    return same(f, x, source);
  },
  leaky_relu: (f, s, index, [x], { slope }) => bent(f, x, index, slope),
  prelu(f, s, index, [x]) {
    const about = STOPS[s].parameters.find((one) => one.name === "alpha");
    return about ? bent(f, x, index, parameter(f, s, "alpha", about.shape.map((size, axis) => index[axis] % size))) : null;
  },
  copy: (f, s, index, [x]) => same(f, x, index),
  patches(f, s, [t, n], [x], { size }) {
    const [, width, channels] = STOPS[x].shape, across = width / size, pixel = Math.floor(n / channels);
    const row = Math.floor(t / across) * size + Math.floor(pixel / size), column = (t % across) * size + (pixel % size);
    return same(f, x, [row, column, n % channels]);
  },
  "cross entropy"(f, s, index, [x], { label }) {
    const scores = range(STOPS[x].shape[0]).map((i) => at(f, x, [i])), greatest = Math.max(...scores);
    const sum = greatest + Math.log(scores.reduce((a, b) => a + Math.exp(b - greatest), 0));
    const own = DATA.values[f][s].label ?? label, total = sum - scores[own];
    return { text: `log Σ exp(logits) − logits[${own}] = ${short(sum)} − ${short(scores[own])} = ${short(total)}`, total,
      lights: [[x, [[own]]]] };
  },
};

function same(f, x, index) {
  const total = at(f, x, index);
  return { text: `${indexed(x, index)} = ${short(total)}`, total, lights: [[x, [index]]] };
}

function bent(f, x, index, slope) {
  const value = at(f, x, index), total = value > 0 ? value : slope * value;
  return { text: value > 0 ? `${short(value)}, above 0, as it is` : `slope ${short(slope)} · (${short(value)}) = ${short(total)}`,
    total, lights: [[x, [index]]] };
}

function standard(value, mean, variance, epsilon, gamma, beta, lights) {
  const total = gamma * (value - mean) / Math.sqrt(variance + epsilon) + beta;
  const text = `${short(gamma)} · (${short(value)} − ${short(mean)}) / √(${short(variance)} + ${epsilon}) + ${short(beta)} = ${short(total)}`;
  return { text, total, lights };
}

function explain(frame, stop, index) {
  const rule = STOPS[stop].rule, value = at(frame, stop, index);
  if (value === undefined) return { text: "this place was thinned away: choose another" };
  if (STOPS[stop].kind === "input") return { text: "the input itself" };
  if (!rule) return { text: "no rule is known for this stop: read its formula and its lines" };
  if (rule.kind === "table") return { text: "a parameter itself", total: value, lights: [] };
  let found = null;
  if (FUNCTIONS[rule.kind]) {
    const [f, text] = FUNCTIONS[rule.kind], x = at(frame, rule.inputs[0], index), total = f(x);
    found = { text: `${text(x < 0 ? `(${short(x)})` : short(x))} = ${short(total)}`, total, lights: [[rule.inputs[0], [index]]] };
  } else if (RULES[rule.kind]) {
    found = RULES[rule.kind](frame, stop, index, rule.inputs, rule.settings);
  }
  if (found === null || found.total === undefined || (Number.isNaN(found.total) && !Number.isNaN(value))) {
    return { text: "not written out here: some of the numbers that it needs were thinned away, or its rule is not known" };
  }
  return found;
}
