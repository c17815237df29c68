"use strict";
// What lies behind the scores of a run: compare/behind.py has counted it. Builders are in page.js, plots in report.js.
const WORST = 40; // classes of a matrix; of more, those that are mistaken most
function behind(group) {
  const runs = Object.keys(group.behind);
  if (!runs.length) return null;
  let run = runs[0], kind = null;
  const holder = el("div");
  function fill() {
    const one = group.behind[run];
    kind = one.kinds.find((k) => kind && k.key === kind.key) || one.kinds[one.kinds.length - 1];
    const kinds = one.kinds.length > 1 ? choice("of", one.kinds.map((k) => [k.key, k.title === "box" ? "boxes" : `${k.title}s`]), (key) => { kind = { key }; fill(); }) : null;
    if (kinds) kinds.querySelector("select").value = kind.key;
    holder.replaceChildren(kinds ? controls(kinds) : "", kind.confusion ? confusion(one, kind) : "",
      kind.tide ? el("div", { class: "pair" }, titledPlot("AP50 lost to each kind of error", (node) => errorBars(node, one, kind)), titledPlot("Precision and recall at IoU 0.5, by class", (node) => precisionCurves(node, kind))) : "",
      kind.calibration ? el("div", { class: "pair" }, titledPlot("Calibration: how many of a score's detections are right", (node) => calibration(node, kind)), sizeTables(one)) : "");
  }
  redraws.push(fill);
  fill();
  const chosen = runs.length > 1 ? controls(choice("run", runs.map((i) => [i, rows[i].name]), (i) => { run = i; fill(); })) : el("p", { class: "faint" }, rows[run].name);
  return el("div", { class: "behind" }, el("h3", {}, group.title), chosen, holder);
}
function titledPlot(title, make) {
  const node = el("div", { class: "plot", role: "img", "aria-label": title });
  requestAnimationFrame(() => make(node));
  return el("div", {}, el("h4", {}, title), node);
}
function confusion(one, kind) {
  const count = one.classes.length - 1, none = count, matrix = kind.confusion;
  const wrong = (k) => matrix.reduce((sum, row, r) => sum + (r === k ? row.reduce((a, v, c) => a + (c === k ? 0 : v), 0) : (row[k] || 0)), 0);
  let shown = [...Array(count).keys()];
  if (count > WORST) shown = shown.sort((a, b) => wrong(b) - wrong(a)).slice(0, WORST).sort((a, b) => a - b);
  const columns = [...shown, none], lines = matrix.length > count ? [...shown, none] : shown;
  const below = el("div", { class: "examples", "aria-live": "polite" }), many = (v) => (v >= 1e6 ? `${(v / 1e6).toFixed(1)}M` : v >= 1e4 ? `${Math.round(v / 1e3)}k` : v);
  function open(r, c) {
    const found = one.examples[`${r},${c}`] || [], text = `labelled ${one.classes[r]}, predicted ${one.classes[c]}: ${matrix[r][c].toLocaleString("en")} ${kind.key === "semantic" ? "pixels" : "objects"}`;
    below.replaceChildren(el("p", {}, text, found.length ? "" : ` (no pictures: only the largest cells of ${one.looked_at || 0} images have them)`),
      ...found.map(([jpeg, name]) => el("figure", {}, el("img", { src: `data:image/jpeg;base64,${jpeg}`, alt: text }), el("figcaption", { title: name }, name.split("/").pop()))));
  }
  const cell = (r, c) => {
    const total = matrix[r].reduce((a, b) => a + b, 0), share = total ? matrix[r][c] / total : 0;
    const colour = r === c ? "--good" : "--bad", shade = matrix[r][c] ? 0.08 + 0.7 * share : 0;
    return el("td", { style: `background:rgba(var(${colour}),${shade})` }, matrix[r][c] ? el("button", { type: "button", class: "cell", onclick: () => open(r, c) }, many(matrix[r][c])) : null);
  };
  const table = el("table", { class: "matrix" }, el("thead", {}, el("tr", {}, el("th", {}, "labelled ↓ predicted →"), columns.map((k) => el("th", { scope: "col" }, one.classes[k])))),
    el("tbody", {}, lines.map((r) => el("tr", {}, el("th", { scope: "row" }, one.classes[r]), columns.map((c) => (c < matrix[r].length ? cell(r, c) : el("td")))))));
  const what = kind.key === "semantic" ? "pixels" : "objects and detections at IoU and score 0.5 or more";
  const boxes = kind.key === "semantic" ? "the box is around the largest such region" : "white is labelled, orange predicted";
  return el("div", {}, el("h4", {}, "Confusion matrix"), el("p", { class: "faint" }, `What is taken for what: ${what}.${count > WORST ? ` The ${WORST} classes with most mistakes of ${count}.` : ""} Click a cell for examples: ${boxes}.`), scroll("confusion matrix", table), below);
}
function errorBars(node, one, kind) {
  const names = Object.keys(one.errors), lost = names.map((name) => 100 * kind.tide.lost[name]);
  const look = layout("points of AP50", "");
  look.yaxis.automargin = true;
  draw(node, [{ type: "bar", orientation: "h", x: lost.reverse(), y: names.map((name) => `${one.errors[name]} (${kind.tide.counts[name]})`).reverse(), marker: { color: COLOURS[4] }, hovertemplate: "%{y}: %{x:.1f}<extra></extra>" }], look);
}
function precisionCurves(node, kind) {
  const named = Object.entries(kind.precision).filter(([, values]) => values), mean = (values) => values.reduce((a, b) => a + Math.max(0, b), 0) / values.length;
  named.sort((a, b) => mean(a[1]) - mean(b[1])); // the worst are named first
  const x = Array.from({ length: 101 }, (_, k) => k / 100), look = layout("recall", "precision", { showlegend: named.length <= 12, legend: { orientation: "h", y: -0.25 } });
  Object.assign(look.xaxis, { range: [0, 1.01] });
  Object.assign(look.yaxis, { range: [0, 1.03] });
  draw(node, named.slice(0, 24).map(([name, y], k) => ({ x, y, name: plain(name), mode: "lines", line: { color: colourOf(k), dash: DASHES[Math.floor(k / COLOURS.length) % DASHES.length], width: 2 }, hovertemplate: `${plain(name)}: %{y:.2f} at %{x:.2f}<extra></extra>` })), look);
}
function calibration(node, kind) {
  const bins = kind.calibration.bins.filter((one) => one.count), look = layout("score", "share that is right", { shapes: [{ type: "line", x0: 0, y0: 0, x1: 1, y1: 1, line: { dash: "dash", color: style("--faint"), width: 1.5 } }] });
  Object.assign(look.xaxis, { range: [0, 1] });
  Object.assign(look.yaxis, { range: [0, 1.03] });
  draw(node, [{ type: "bar", x: bins.map((one) => (one.bin_lower + one.bin_upper) / 2), y: bins.map((one) => one.avg_accuracy), width: bins.map((one) => one.bin_upper - one.bin_lower - 0.01), text: bins.map((one) => one.count), hovertemplate: "%{text} detections, %{y:.0%} right<extra></extra>", marker: { color: COLOURS[0] } }], look);
}
function sizeTables(one) {
  const percent = (value) => (known(value) ? (100 * value).toFixed(1) : "–");
  const sizes = one.sizes.length ? [el("h4", {}, "By size of the objects"), plainTable({ caption: "AP by size", titles: ["", "below 32²", "to 96²", "above"], lines: one.sizes.map(([title, ...values]) => [title, ...values.map(percent)]) })] : [];
  const crowding = one.crowding.length ? [el("h4", {}, "By crowding of the images"), plainTable({ caption: "AP by objects an image", titles: ["objects an image", "images", "AP"], lines: one.crowding.map(([name, images, ap]) => [name, String(images), percent(ap)]) })] : [];
  return el("div", {}, sizes, crowding);
}
