"use strict";
// The report of `segcli compare --html`: compare/report.py has made every text, sort key and interval in `data`; this
// shows, sorts and filters them.
const rows = data.rows;
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#A08400", "#7F7F7F"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "pentagon", "x", "star"];
const hidden = new Set(); // numbers of rows that are switched off
const colourOf = (i) => COLOURS[i % COLOURS.length];
const swatch = (colour) => el("span", { class: "swatch", style: `background:${colour}` });
const shownOf = (numbers) => numbers.filter((i) => !hidden.has(Number(i)));
const plain = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;"); // plotly reads text as HTML
const choose = (scores) => scores.map((one) => [one.key, one.title]);

// ---- tables
// columns: {title, left, less, main}; lines: [{cells: [[text, sort key, small, shade]], mark}]
// sorted: {by: position of a column or -1, down}, kept by whoever draws the table again
function sortable(caption, columns, lines, sorted) {
  if (sorted.by >= columns.length) sorted.by = -1;
  const body = el("tbody");
  const heads = columns.map((column, at) => {
    const sort = () => {
      sorted.down = at === sorted.by ? !sorted.down : !column.left && !column.less;
      sorted.by = at;
      draw();
    };
    return el("th", { scope: "col", class: column.left ? "text" : "", style: column.width ? `width:${column.width}` : null }, el("button", { type: "button", onclick: sort }, column.title));
  });
  function before(a, b) { // what is not known stands last
    const x = a.cells[sorted.by][1], y = b.cells[sorted.by][1];
    if (!known(x) || !known(y)) return known(y) - known(x);
    return (typeof x === "string" ? x.localeCompare(y) : x - y) * (sorted.down ? -1 : 1);
  }
  function draw() {
    heads.forEach((head, at) => at === sorted.by ? head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
    body.replaceChildren(...(sorted.by < 0 ? lines : [...lines].sort(before)).map((line) => el("tr", {}, line.cells.map(([text, , small, shade], at) => el(at ? "td" : "th", {
      class: [columns[at].left ? "text" : "", columns[at].main ? "main" : ""].join(" ").trim(), scope: at ? null : "row", style: shade ? `background:${shade}` : null,
    }, at ? null : line.mark, text, small ? el("small", {}, small) : null)))));
  }
  draw();
  return scroll(caption, el("table", {}, el("thead", {}, el("tr", {}, heads)), body));
}
function plainTable({ caption, titles, lines }) {
  const cell = (text, at) => el(at ? "td" : "th", { scope: at ? null : "row", class: "text wrap" }, text);
  return scroll(caption, el("table", {}, el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col", class: "text" }, title)))), el("tbody", {}, lines.map((line) => el("tr", {}, line.map(cell))))));
}
function comparisonTable({ rows: numbers, table }) {
  let all = false;
  const holder = el("div"), sorted = { by: -1, down: true };
  function fill() {
    const kept = table.columns.map((column, at) => at).filter((at) => all || !table.columns[at].more);
    const lines = numbers.map((i, at) => ({ i, mark: [swatch(colourOf(i)), " "], cells: kept.map((k) => table.cells[at][k]) })).filter((line) => !hidden.has(line.i));
    holder.replaceChildren(sortable(table.caption, kept.map((at) => table.columns[at]), lines, sorted));
  }
  redraws.push(fill);
  fill();
  const more = table.columns.some((column) => column.more) ? check("all columns", false, (on) => { all = on; fill(); }) : null;
  return el("div", {}, controls(el("span", { class: "faint" }, table.caption), more), holder);
}

// ---- plots
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function layout(x, y, extra = {}) {
  const axis = (title) => ({ title: { text: title, standoff: 8 }, gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--line"), automargin: true });
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style("--ink"), family: "system-ui, DejaVu Sans, sans-serif", size: 13 },
    margin: { l: 50, r: 18, t: 38, b: 46 }, modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--faint"), activecolor: style("--accent") }, hovermode: "closest", showlegend: false, xaxis: axis(x), yaxis: axis(y),
    hoverlabel: { bgcolor: style("--card"), font: { color: style("--ink") } }, ...extra,
  };
}
const draw = (node, traces, look) => plotting(() => Plotly.react(node, traces, look, { responsive: true, displaylogo: false, displayModeBar: !look.showlegend, modeBarButtonsToRemove: ["lasso2d", "select2d"] }));
function front(points) { // those that no other one of the shown beats
  const order = [...points].sort((a, b) => a.x - b.x || b.y - a.y);
  return order.filter((p, at) => order.slice(0, at).every((q) => q.y < p.y));
}
function paretoPlot({ rows: numbers, plot }) {
  let x = plot.costs[0][0], y = plot.scores[0], logarithmic = false;
  const families = [...new Set(rows.map((row) => row.model))];
  const node = el("div", { class: "plot", role: "img", "aria-label": "score against cost; the table has the same numbers" });
  const note = el("p", { class: "faint" });
  function redraw() {
    const points = numbers.map((i, at) => {
      const [score, low, high] = plot.rows[at].scores[y.key];
      return { i, x: plot.rows[at].costs[x], y: score, low, high };
    }).filter((p) => !hidden.has(p.i) && known(p.x) && known(p.y));
    const names = points.map((p) => rows[p.i].name); // of runs with very different work none is said to be ahead
    const unequal = x !== "train_gflops" && points.some((p) => rows[p.i].not_compared.some((name) => names.includes(name)));
    const line = unequal ? [] : front(points), cost = plot.costs.find(([key]) => key === x)[1];
    note.textContent = (unequal ? "No Pareto front: runs that are shown had very different training work, or are undertrained." : "Dashed: the Pareto front; filled: on it.") + " The symbol is the model family, the colour the row. Bars: 95 % intervals, where known.";
    const right = 0.7 * Math.max(...points.map((p) => p.x));
    const symbol = (p) => SYMBOLS[families.indexOf(rows[p.i].model) % SYMBOLS.length] + (line.includes(p) ? "" : "-open");
    const colours = points.map((p) => colourOf(p.i)), reach = (p, bound) => (known(bound) ? Math.abs(bound - p.y) : 0);
    const traces = [
      { x: line.map((p) => p.x), y: line.map((p) => p.y), mode: "lines", line: { shape: "hv", dash: "dash", width: 1.5, color: style("--faint") }, hoverinfo: "skip" },
      {
        x: points.map((p) => p.x), y: points.map((p) => p.y), mode: "markers+text", text: names.map(plain), textposition: points.map((p) => (p.x > right ? "top left" : "top right")), cliponaxis: false,
        marker: { size: 13, color: colours, symbol: points.map(symbol), line: { width: 2, color: colours } },
        error_y: points.some((p) => known(p.low)) ? { type: "data", symmetric: false, color: style("--faint"), thickness: 1.2, array: points.map((p) => reach(p, p.high)), arrayminus: points.map((p) => reach(p, p.low)) } : undefined,
        hovertemplate: `%{text}<br>${cost} %{x:,.4~g}<br>${y.title} %{y:.${y.digits}f}<extra></extra>`,
      },
    ];
    const look = layout(cost, y.axis);
    look.xaxis.type = logarithmic ? "log" : "linear";
    if (!logarithmic) look.xaxis.rangemode = "tozero";
    draw(node, traces, look);
  }
  redraws.push(redraw);
  requestAnimationFrame(redraw);
  return el("div", {}, controls(
    choice("cost", plot.costs, (key) => { x = key; redraw(); }),
    choice("score", choose(plot.scores), (key) => { y = plot.scores.find((one) => one.key === key); redraw(); }),
    check("logarithmic cost", false, (on) => { logarithmic = on; redraw(); })),
  node, note);
}
function curves({ title, curves: found }) {
  if (!found) return null;
  let minutes = true, score = found.scores[0];
  const left = el("div", { class: "plot", role: "img", "aria-label": "training loss" }), right = el("div", { class: "plot", role: "img", "aria-label": "score during training" });
  function redraw() {
    const shown = shownOf(Object.keys(found.runs)), over = minutes ? "minutes of training" : "steps";
    const legend = { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 } };
    const trace = (i, entries, value, extra) => ({
      x: entries.map((entry) => entry[minutes ? 1 : 0]), y: entries.map(value), name: plain(rows[i].name), mode: "lines",
      line: { color: colourOf(i), width: 2, dash: DASHES[Math.floor(i / COLOURS.length) % DASHES.length] }, ...extra,
    });
    draw(left, shown.map((i) => trace(i, found.runs[i].loss, (entry) => entry[2])), layout(over, "loss, smoothed", legend));
    const scored = (i) => found.runs[i].scores.filter((entry) => score && known(entry[2][score.key]));
    draw(right, shown.map((i) => trace(i, scored(i), (entry) => entry[2][score.key], { mode: "lines+markers", marker: { size: 8 } })), layout(over, score ? score.axis : "", legend));
  }
  redraws.push(redraw);
  requestAnimationFrame(redraw);
  return el("div", {}, el("h3", {}, title), controls(
    choice("over", [["minutes", "minutes of training"], ["steps", "steps"]], (value) => { minutes = value === "minutes"; redraw(); }),
    choice("score", choose(found.scores), (key) => { score = found.scores.find((one) => one.key === key); redraw(); })),
  el("div", { class: "pair" }, left, right));
}

// ---- classes: scores, or differences to one of the runs; their spread among those that are shown
function classTable({ classes }) {
  if (!classes) return null;
  let score = classes.scores[0], reference = "";
  const runs = Object.keys(classes.runs), holder = el("div"), sorted = { by: -1, down: true };
  const bar = (value) => known(value) && score.fraction ? `linear-gradient(90deg, rgba(var(--good), .22) ${value}%, transparent 0)` : null;
  const tint = (value) => `rgba(var(${value < 0 ? "--bad" : "--good"}), ${Math.min(0.65, Math.abs(value) / (score.fraction ? 50 : 1))})`;
  function cell(i, at) {
    const [text, value] = classes.runs[i][score.key][at];
    if (!reference || i === reference) return [text, value, null, bar(value)];
    const other = classes.runs[reference][score.key][at][1];
    if (!known(value) || !known(other)) return ["–", null];
    return [(value > other ? "+" : "") + (value - other).toFixed(score.digits), value - other, null, tint(value - other)];
  }
  function spread(shown, at) {
    const values = shown.map((i) => classes.runs[i][score.key][at][1]).filter(known);
    const width = values.length > 1 ? Math.max(...values) - Math.min(...values) : null;
    return [known(width) ? width.toFixed(score.digits) : "–", width];
  }
  function fill() {
    const shown = shownOf(runs);
    const columns = [{ title: "class", left: true }, ...shown.map((i) => ({ title: rows[i].name + (reference && i !== reference ? "\ndifference" : ""), width: `${Math.round(70 / shown.length)}%` })), { title: "largest\ndifference" }];
    const lines = classes.names.map((name, at) => ({ cells: [[name, name], ...shown.map((i) => cell(i, at)), spread(shown, at)] }));
    const caption = `${score.title} ${classes.caption}`;
    holder.replaceChildren(el("p", { class: "faint" }, caption), sortable(caption, columns, lines, sorted));
  }
  redraws.push(fill);
  fill();
  return el("div", {}, controls(
    choice("score", choose(classes.scores), (key) => { score = classes.scores.find((one) => one.key === key); fill(); }),
    choice("show", [["", "scores"], ...runs.map((i) => [i, `differences to ${rows[i].name}`])], (value) => { reference = value; fill(); })), holder);
}

// ---- the page
function build() {
  const nav = el("nav", { "aria-label": "sections" });
  main.append(el("header", {}, el("h1", {}, "segcli compare"), themeButton(), nav));
  if (data.verdict.length) main.append(el("div", { class: "verdict", id: "verdict" }, data.verdict.map((line) => el("p", {}, line))));
  if (rows.length > 1) {
    main.append(el("div", { class: "bar", role: "group", "aria-label": "models shown" }, rows.map((row, i) => {
      const box = el("input", { type: "checkbox", checked: true, onchange: () => { box.checked ? hidden.delete(i) : hidden.add(i); redraw(); } });
      return el("label", { class: "chip" }, box, swatch(colourOf(i)), row.name);
    })));
  }
  const folded = (open, summary, ...content) => el("details", { open }, el("summary", {}, summary), ...content);
  const titled = (title, content) => [el("h3", {}, title), content];
  const each = (make) => data.groups.map(make).filter(Boolean);
  const { pairs, forecasts, environment } = data;
  section("table", "Cost and score", each(comparisonTable), pairs && folded(pairs.lines.length <= 6, pairs.caption, plainTable(pairs)),
    forecasts && titled(forecasts.caption, plainTable(forecasts)), data.notes.length ? el("ul", { class: "faint" }, data.notes.map((note) => el("li", {}, note))) : null);
  const plots = data.groups.filter((group) => group.plot).map((group) => titled(group.title, paretoPlot(group)));
  look.score = Math.min(...data.groups.map((group) => (group.pictures ? group.pictures.score : look.score)), look.score); // of weak models
  const classes = each(classTable), images = each(pictures), logs = each(curves), errors = each(behind);
  if (plots.length) section("plot", "Score against cost", plots.flat());
  if (classes.length) section("classes", "Class by class", classes);
  if (errors.length) section("errors", "Behind the scores", errors);
  if (images.length) section("images", "Where they disagree", images);
  if (logs.length) section("curves", "Training", logs);
  const costs = data.costs.map((one) => folded(false, [swatch(colourOf(one.row)), ` ${rows[one.row].name}`], plainTable(one.table), el("p", { class: "faint" }, one.text)));
  if (costs.length) section("costs", "Costs part by part", costs);
  const different = data.groups.filter((group) => group.recipes.lines.length).map((group) => titled(group.title, plainTable(group.recipes)));
  if (different.length) section("recipes", "Where the recipes differ", different.flat());
  if (environment) section("environment", "Environment and licences", plainTable(environment), el("p", { class: "faint" }, `Made by segcli ${data.version}. This file holds all that it shows: it loads nothing from elsewhere.`));
  listSections(nav);
}
build();
