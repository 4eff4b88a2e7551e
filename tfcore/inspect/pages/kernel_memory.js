// Live bytes over the schedule of kernel_page.py's page, and what lives where one points.
"use strict";

const LISTED = 12; // buffers beside the drawing

function mebibytes(bytes) {
  if (bytes < 2 ** 20 / 10) return `${(bytes / 2 ** 10).toFixed(1)} KiB`;
  return `${(bytes / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
}

// Of each layer and line: bytes and names of what lives at a place, the most first.
function living(memory, place) {
  const groups = new Map();
  memory.lives.begin.forEach((begin, i) => {
    if (begin > place || memory.lives.end[i] <= place) return;
    const layer = layerName(data.texts[memory.lives.layer[i]]);
    const source = data.texts[memory.lives.source[i]];
    const key = `${layer} ${source}`;
    if (!groups.has(key)) groups.set(key, { layer, source, bytes: 0, names: [] });
    const group = groups.get(key);
    group.bytes += memory.lives.bytes[i];
    group.names.push(memory.lives.name[i]);
  });
  return [...groups.values()].sort((a, b) => b.bytes - a.bytes);
}

function describePlace(memory, place, total) {
  const groups = living(memory, place);
  const shown = groups.slice(0, LISTED);
  const at = memory.schedule[Math.min(place, memory.schedule.length - 1)];
  const where = place === memory.peak_at ? "At the peak" : "Here";
  const line = element("p", {}, `${where}, instruction ${place + 1} of ${memory.schedule.length} (${at}): `
    + `${mebibytes(total)}, and ${mebibytes(memory.argument_bytes)} of arguments.`);
  const table = element("table", {});
  const head = element("tr", {});
  for (const title of ["size", "layer", "line", "buffers"]) head.append(element("th", { scope: "col" }, title));
  table.append(head);
  for (const group of shown) {
    const row = element("tr", {});
    row.append(element("td", { class: "number" }, mebibytes(group.bytes)), element("td", {}, group.layer));
    row.append(element("td", {}, group.source.split("/").pop()));
    row.append(element("td", {}, group.names.slice(0, 3).join(", ")
      + (group.names.length > 3 ? ` and ${group.names.length - 3} more` : "")));
    table.append(row);
  }
  const rest = total - shown.reduce((sum, group) => sum + group.bytes, 0);
  if (rest > 0 && (groups.length > LISTED || memory.left_out)) {
    const row = element("tr", {});
    row.append(element("td", { class: "number" }, mebibytes(rest)), element("td", { colspan: 3 }, "smaller ones"));
    table.append(row);
  }
  byId("memory-list").replaceChildren(line, table);
}

function startMemory() {
  const memory = data.memory;
  byId("memory-section").hidden = !memory;
  if (!memory) return;
  const [width, height, left, bottom, top] = [1000, 230, 76, 30, 12];
  const places = memory.curve.map((point) => point[0]);
  const most = Math.max(...memory.curve.map((point) => point[1]), 1);
  const last = Math.max(memory.schedule.length, 1);
  const x = (place) => left + place / last * (width - left - 8);
  const y = (bytes) => height - bottom - bytes / most * (height - bottom - top);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "slider", tabindex: "0",
    "aria-label": "Live bytes over the schedule", "aria-valuemin": 1, "aria-valuemax": last });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    drawing.append(svg("line", { class: "grid", x1: left, x2: width - 8, y1: y(share * most), y2: y(share * most) }));
    const at = { x: left - 8, y: y(share * most) + 4, "text-anchor": "end", class: "faint" };
    drawing.append(svg("text", at, mebibytes(share * most)));
  }
  let path = `M${x(0)},${y(0)}`;
  memory.curve.forEach(([place, bytes], i) => {
    const next = i + 1 < memory.curve.length ? memory.curve[i + 1][0] : last;
    path += `L${x(place)},${y(bytes)}L${x(next)},${y(bytes)}`;
  });
  drawing.append(svg("path", { class: "living", d: `${path}L${x(last)},${y(0)}Z` }));
  drawing.append(svg("text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle", class: "faint" },
    "instructions in the order in which they run"));
  const cursor = svg("line", { class: "cursor", y1: top, y2: height - bottom });
  drawing.append(cursor);
  let chosen = memory.peak_at;
  const show = (place) => {
    chosen = Math.min(Math.max(place, 0), last - 1);
    cursor.setAttribute("x1", x(chosen + 0.5));
    cursor.setAttribute("x2", x(chosen + 0.5));
    const before = places.findLastIndex((begin) => begin <= chosen);
    const total = before < 0 ? 0 : memory.curve[before][1];
    drawing.setAttribute("aria-valuenow", chosen + 1);
    drawing.setAttribute("aria-valuetext", `${mebibytes(total)} at ${memory.schedule[chosen]}`);
    describePlace(memory, chosen, total);
  };
  const point = (event) => {
    const box = drawing.getBoundingClientRect();
    const inside = (event.clientX - box.left) / box.width * width;
    show(Math.floor((inside - left) / (width - left - 8) * last));
  };
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("pointerleave", () => show(memory.peak_at));
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Home") show(memory.peak_at);
    else if (step) show(chosen + step);
    else return;
    event.preventDefault();
  });
  byId("memory").replaceChildren(drawing);
  byId("memory-note").textContent = `${memory.method}. Point at the drawing, or use the arrow keys (Home: the peak), `
    + "to see what lives there, by layer and line. What a loop runs stands once.";
  show(memory.peak_at);
}
