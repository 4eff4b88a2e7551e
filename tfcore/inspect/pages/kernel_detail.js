// The chosen kernel of kernel_page.py's page: its shapes, work, readers and source lines.
"use strict";

function choose(i) {
  state.chosen = i;
  for (const row of byId("body").querySelectorAll("tr")) {
    if (Number(row.dataset.kernel) === i) row.setAttribute("aria-selected", "true");
    else row.removeAttribute("aria-selected");
  }
  const facts = element("dl", { class: "facts" });
  const fact = (name, value) => value && facts.append(element("dt", {}, name), element("dd", {}, value));
  fact("from", ["layer", "operation", "phase", "source"].map((name) => text(name, i)).filter(Boolean).join(", ")
    + (columns.inferred[i] ? " (the compiler named none: taken from its reader)" : ""));
  fact("result", text("shape", i));
  fact("operands", columns.operands[i].map((number) => data.texts[number]).join("   "));
  if (data.counted) {
    const again = columns.again[i] ? `, of them ${scaled(columns.again[i])} of forward work once more` : "";
    fact("work", `${scaled(columns.flops[i])} FLOP${again}, ${scaled(columns.transcendentals[i])} transcendentals, `
      + `${scaled(columns.integer_ops[i])} integer operations`);
    fact("memory", `${scaled(columns.bytes_read[i])}B read, ${scaled(columns.bytes_written[i])}B written`);
    fact("sent", columns.bytes_sent[i] ? `${scaled(columns.bytes_sent[i])}B to other devices` : "");
    fact("sorting", columns.comparisons[i] ? `${scaled(columns.comparisons[i])} comparisons` : "");
    fact("uncounted", columns.counted[i] ? "" : "work that has no formula");
    fact("condition", text("branch", i));
    const runs = columns.runs[i];
    if (runs !== 1) fact("runs", runs === null ? "in a loop of unknown length" : `${runs} a step`);
  }
  if (data.timed) {
    const [us, fraction] = [columns.us[i], columns.fraction[i]];
    const place = fraction === null ? "" : `; ${percent(fraction)} of the possible, bound: ${text("bound", i)}`;
    fact("time", us === null ? "the profiler recorded none" : `${micro(us)} µs a step${place}`);
  }
  fact("not fused further", text("why_alone", i));
  for (const [name, from, to] of [["reads", 1, 0], ["read by", 0, 1]]) {
    const others = data.edges.filter((edge) => edge[from] === i).map((edge) => edge[to]);
    if (!others.length) continue;
    const links = element("dd", {});
    for (const other of others) {
      const button = element("button", { type: "button", class: "link" }, columns.name[other]);
      button.addEventListener("click", () => choose(other));
      links.append(button, " ");
    }
    facts.append(element("dt", {}, name), links);
  }
  byId("detail").replaceChildren(element("h2", {}, columns.name[i]), facts, ...sourceLines(i), ...insides(i));
  for (const mark of document.querySelectorAll("svg .chosen")) mark.classList.remove("chosen");
  for (const mark of document.querySelectorAll(`svg [data-kernel="${i}"]`)) mark.classList.add("chosen");
}

function sourceLines(i) {
  const source = text("source", i);
  const found = data.snippets[source];
  if (!found) return [];
  const line = Number(source.slice(source.lastIndexOf(":") + 1));
  const lines = element("pre", { "aria-label": source });
  found.lines.forEach((words, place) => {
    const number = found.first + place;
    lines.append(element(number === line ? "mark" : "span", {}, `${String(number).padStart(4)}  ${words}\n`));
  });
  return [element("p", { class: "faint" }, source), lines];
}

function insides(i) {
  const parts = [];
  for (const [title, column] of [["parts come from", "parts"], ["fused into it", "fused"]]) {
    if (!columns[column][i].length) continue;
    const list = element("ol", {});
    list.append(...columns[column][i].map((number) => element("li", {}, data.texts[number])));
    const box = element("details", {});
    box.append(element("summary", {}, `${title}: ${columns[column][i].length}`), list);
    parts.push(box);
  }
  return parts;
}
