// The roofline of kernel_page.py's page; the last of its scripts, which starts them all.
"use strict";

const MARKS = { // a shape for each phase, so that colours are not needed
  forward: (x, y, r) => svg("circle", { cx: x, cy: y, r }),
  backward: (x, y, r) => svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }),
  update: (x, y, r) => svg("path", { d: `M${x},${y - 1.3 * r}L${x + 1.2 * r},${y + r}H${x - 1.2 * r}Z` }),
  other: (x, y, r) => turned(MARKS.backward(x, y, r), x, y),
};

function turned(mark, x, y) {
  mark.setAttribute("transform", `rotate(45 ${x} ${y})`);
  return mark;
}

const marks = new Map(); // of each kernel that has a place

// What the table shows stands out, and in front.
function markRoofline() {
  const here = new Set(shown);
  for (const [i, mark] of marks) {
    mark.classList.toggle("away", !here.has(i));
    if (here.has(i) && here.size < kernels.length) mark.parentNode.append(mark);
  }
}

function startRoofline() {
  byId("roofline-section").hidden = !data.ceilings;
  if (!data.ceilings) return;
  const peaks = Object.entries(data.ceilings.flops_per_second);
  const stream = data.ceilings.bytes_per_second;
  const points = kernels.filter((i) => columns.flops[i] && columns.us[i]);
  const [width, height, left, bottom, right, top] = [860, 460, 70, 46, 16, 14];
  const speeds = points.map((i) => columns.flops[i] / columns.us[i] * 1e6);
  const most = Math.max(...peaks.map((peak) => peak[1]), ...speeds) * 2;
  const least = Math.max(Math.min(...speeds, most), most / 1e7) / 2;
  const lows = points.map(intensity);
  const [low, high] = [Math.max(Math.min(...lows, 0.1), 1e-4) / 2, Math.max(...lows, 2 * peaks[0][1] / stream) * 2];
  const log = (value, from, to) => (Math.log(value) - Math.log(from)) / (Math.log(to) - Math.log(from));
  const x = (value) => left + log(Math.max(value, low), low, high) * (width - left - right);
  const y = (value) => height - bottom - log(Math.max(value, least), least, most) * (height - bottom - top);
  const viewBox = `0 0 ${width} ${height}`;
  const drawing = svg("svg", { viewBox, role: "img", "aria-label": "Roofline: speed over arithmetic intensity" });
  const line = (x1, x2, y1, y2) => drawing.append(svg("line", { class: "grid", x1, x2, y1, y2 }));
  const label = (words, at, up, anchor, kind = "faint") =>
    drawing.append(svg("text", { x: at, y: up, "text-anchor": anchor, class: kind }, words));
  for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power++) {
    line(x(10 ** power), x(10 ** power), top, height - bottom);
    label(String(Number((10 ** power).toPrecision(1))), x(10 ** power), height - bottom + 18, "middle");
  }
  for (let power = Math.ceil(Math.log10(least)); 10 ** power <= most; power++) {
    line(left, width - right, y(10 ** power), y(10 ** power));
    label(scaled(10 ** power), left - 8, y(10 ** power) + 4, "end");
  }
  label("FLOP a byte", (left + width) / 2, height - 8, "middle");
  label("FLOP/s", left + 4, top + 10, "start");
  const best = Math.max(...peaks.map((peak) => peak[1]));
  const start = Math.max(low, least / stream);
  drawing.append(svg("path", { class: "roof", d: `M${x(start)},${y(start * stream)}L${x(best / stream)},${y(best)}` }));
  const middle = Math.sqrt(start * best / stream);
  label(`memory ${scaled(stream)}B/s`, x(middle) - 8, y(middle * stream) - 8, "end", "limit");
  for (const [name, peak] of peaks) {
    drawing.append(svg("path", { class: "roof", d: `M${x(peak / stream)},${y(peak)}H${width - right}` }));
    label(`${name} ${scaled(peak)}FLOP/s`, width - right - 4, y(peak) - 6, "end", "limit");
  }
  for (const i of points.sort((a, b) => columns.us[b] - columns.us[a])) {
    const size = 2 + 26 * Math.sqrt(columns.us[i] / whole);
    const mark = MARKS[text("phase", i)](x(intensity(i)), y(columns.flops[i] / columns.us[i] * 1e6), size);
    mark.setAttribute("class", `point ${text("phase", i)}`);
    mark.dataset.kernel = i;
    const reached = `${percent(columns.fraction[i])} of the possible, ${text("bound", i)}`;
    const words = [text("layer", i), text("phase", i), duration(columns.us[i]), reached];
    titled(mark, `${columns.name[i]}: ${words.join(", ")}`);
    mark.addEventListener("click", () => choose(i));
    drawing.append(mark);
    marks.set(i, mark);
  }
  let at = left + 90;
  for (const phase of new Set(points.map((i) => text("phase", i)))) {
    const sample = MARKS[phase](at, top + 6, 5);
    sample.setAttribute("class", `point ${phase}`);
    drawing.append(sample);
    label(phase, at + 12, top + 10, "start");
    at += 90;
  }
  byId("roofline").replaceChildren(drawing);
  const without = kernels.filter((i) => !columns.flops[i] && columns.us[i]);
  const share = percent(total(without, "us") / whole);
  byId("roofline-note").textContent = "Each kernel's speed over its FLOP per byte, beside the limits measured in the "
    + "same run; the area is its time. Those that the table shows stand out. "
    + `${without.length} kernels without floating-point operations (${share} of the time) have no place here.`;
}

startTable();
startTree();
startMemory();
startRoofline();
refresh();
if (shown.length) choose(shown[0]);
