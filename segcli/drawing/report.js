"use strict";
// The report of `segcli compare --html`. `data` is what compare/report.py collected; everything is drawn from it.
const data = JSON.parse(document.getElementById("data").textContent);
const rows = data.document.rows;
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#A08400", "#7F7F7F"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "pentagon", "x", "star"];
const KINDS = { segm: "mask", bbox: "box", boundary: "boundary", keypoints: "keypoints" };
const COSTS = {
  gflops: "GFLOPs", params: "parameters, M", latency_ms: "latency, ms", peak_memory_mb: "memory, MB", train_seconds: "training, min", train_gflops: "training, TFLOPs",
};
const hidden = new Set(); // numbers of rows that are switched off
const redraws = []; // what is drawn again when a model is switched on or off, or the theme changes
const main = document.getElementById("report");

// ---- small builders
function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "image", "path", "rect", "text", "g"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}
const colourOf = (i) => COLOURS[i % COLOURS.length];
const swatch = (colour) => el("span", { class: "swatch", style: `background:${colour}` });
const known = (value) => value !== null && value !== undefined;
const heading = (key, join = " ") => {
  const at = key.indexOf("_"), kind = key.slice(0, at), part = key.slice(at + 1);
  return at > 0 && KINDS[kind] && part ? KINDS[kind] + join + part : key;
};
const isShare = (key) => !/error|chamfer/.test(key);
const score = (key, value) => (!known(value) || value < 0 ? "–" : isShare(key) ? (100 * value).toFixed(1) : value.toFixed(3));
function number(value, digits = 0) {
  if (!known(value)) return "–";
  if (value && Math.abs(value) < 10) digits = Math.max(digits, Math.abs(value) >= 0.1 ? 2 : 4);
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
function cost(row, key) {
  let value = row[key];
  if (value && typeof value === "object") value = value.median;
  if (!known(value) && (key === "gflops" || key === "params")) value = row[`${key}_published`];
  if (!known(value)) return null;
  return key === "params" ? value / 1e6 : key === "train_seconds" ? value / 60 : key === "train_gflops" ? value / 1000 : value;
}
function metric(row, key) {
  const value = row.metrics[key] ?? (row.metrics_published || {})[key];
  return known(value) && value >= 0 ? value : null;
}
const unique = (values) => [...new Set(values)];
const metricsOf = (members) => unique(members.flatMap((i) => [...Object.keys(rows[i].metrics), ...Object.keys(rows[i].metrics_published || {})]));
function section(id, title, ...content) {
  const node = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), ...content);
  main.append(node);
  return node;
}
function choice(label, options, onchange) {
  const select = el("select", { onchange: () => onchange(select.value) }, options.map(([value, text]) => el("option", { value }, text)));
  return el("label", {}, label, select);
}
function check(label, on, onchange) {
  const box = el("input", { type: "checkbox", checked: on, onchange: () => onchange(box.checked) });
  return el("label", {}, box, label);
}

// ---- tables that sort by their header's buttons
// columns: {title, text: row -> string | node, order: row -> number | string | null, left, main, note}
function sortable(caption, columns, items, visible) {
  let by = -1, down = true;
  const body = el("tbody");
  const heads = columns.map((column, at) => {
    const sort = () => {
      down = at === by ? !down : !column.left && !column.less;
      by = at;
      draw();
    };
    return el("th", { scope: "col", class: column.left ? "text" : "" }, el("button", { type: "button", onclick: sort }, column.title));
  });
  const table = el("table", {}, el("thead", {}, el("tr", {}, heads)), body);
  function draw() {
    const order = items.map((item, i) => [item, i]).filter(([item]) => visible(item));
    if (by >= 0) {
      order.sort(([a, i], [b, j]) => {
        const x = columns[by].order(a), y = columns[by].order(b);
        if (!known(x) || !known(y)) return known(y) - known(x) || i - j; // what is not known stands last
        const side = typeof x === "string" ? x.localeCompare(y) : x - y;
        return (down ? -side : side) || i - j;
      });
    }
    heads.forEach((head, at) => at === by ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
    body.replaceChildren(...order.map(([item]) => el("tr", {}, columns.map((column, at) => {
      const shade = column.shade && column.shade(item);
      return el(at ? "td" : "th", {
        class: [column.left ? "text" : "", column.main ? "main" : "", column.wrap ? "wrap" : ""].join(" ").trim(),
        scope: at ? null : "row", style: shade ? `background:${shade}` : null, title: column.title_of && column.title_of(item),
      }, column.text(item));
    }))));
  }
  draw();
  const region = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table);
  return Object.assign(el("div", {}, el("p", { class: "faint" }, caption), region), { redraw: draw });
}

function scoreColumn(key, first) {
  return {
    title: heading(key, "\n"), main: first,
    text: (i) => {
      const interval = (rows[i].ci95 || {})[key];
      return [score(key, metric(rows[i], key)), interval && known(interval[0]) ? el("small", {}, `${score(key, interval[0])} – ${score(key, interval[1])}`) : null];
    },
    order: (i) => metric(rows[i], key),
  };
}
function comparisonTable(group) {
  const primary = group.metric;
  const keys = metricsOf(group.rows).filter((key) => key !== primary);
  const usual = keys.filter((key) => /_(AP|AP50|APs|APm|APl)$|^(mIoU|PQ|SQ|RQ)$/.test(key)), rest = keys.filter((key) => !usual.includes(key));
  const costColumn = (key, title, digits = 0) => ({ title, less: true, text: (i) => number(cost(rows[i], key), digits), order: (i) => cost(rows[i], key) });
  const base = [
    { title: "name", left: true, text: (i) => [swatch(colourOf(i)), ` ${rows[i].pareto ? "★ " : ""}${rows[i].name}`], order: (i) => rows[i].name, title_of: (i) => rows[i].path || rows[i].name },
    ...(primary ? [scoreColumn(primary, true)] : []),
    costColumn("gflops", "GFLOPs", 1), costColumn("params", "params\nM", 1), costColumn("latency_ms", "latency\nms"),
    costColumn("peak_memory_mb", "memory\nMB"), costColumn("train_seconds", "training\nmin", 1),
    ...(group.rows.some((i) => known(rows[i].train_gflops)) ? [costColumn("train_gflops", "training\nTFLOPs", 1)] : []),
    { title: "model", left: true, text: (i) => [rows[i].model, rows[i].variant].filter(Boolean).join(" "), order: (i) => rows[i].model },
    { title: "backbone", left: true, text: (i) => rows[i].backbone || "–", order: (i) => rows[i].backbone },
    ...usual.map((key) => scoreColumn(key, false)),
  ];
  const reached = group.rows.map((i) => rows[i].time_to_score).find(Boolean);
  const more = [
    ...rest.map((key) => scoreColumn(key, false)),
    ...(reached ? [{ title: `min to ${heading(reached.metric)}\n${score(reached.metric, reached.score)}`, less: true, text: (i) => rows[i].time_to_score ? number(rows[i].time_to_score.seconds / 60, 1) : "–", order: (i) => rows[i].time_to_score && rows[i].time_to_score.seconds }] : []),
    { title: "training\nsteps", text: (i) => number(rows[i].train_steps), order: (i) => rows[i].train_steps },
    { title: "training\nimages", text: (i) => number(rows[i].images_seen), order: (i) => rows[i].images_seen },
    { title: "training\nCPU min", less: true, text: (i) => number(known(rows[i].train_cpu_seconds) ? rows[i].train_cpu_seconds / 60 : null, 1), order: (i) => rows[i].train_cpu_seconds },
    { title: "latency p95\nms", less: true, text: (i) => number((rows[i].latency_ms || {}).p95), order: (i) => (rows[i].latency_ms || {}).p95 ?? null },
    { title: "GFLOPs over\nthe dataset", less: true, text: (i) => rows[i].gflops_dataset ? `${number(rows[i].gflops_dataset.mean, 1)} ± ${number(rows[i].gflops_dataset.sd, 1)}` : "–", order: (i) => rows[i].gflops_dataset && rows[i].gflops_dataset.mean },
    { title: "GFLOPs,\npaper's rule", less: true, text: (i) => number(rows[i].gflops_paper_rule, 1), order: (i) => rows[i].gflops_paper_rule },
    { title: "GFLOPs,\npublished", less: true, text: (i) => number(rows[i].gflops_published, 1), order: (i) => rows[i].gflops_published },
    { title: "share of the\nmachine's limit", text: (i) => rows[i].machine ? `${(100 * rows[i].machine.share).toFixed(0)} %` : "–", order: (i) => rows[i].machine && rows[i].machine.share },
  ].filter((column) => group.rows.some((i) => known(column.order(i))));
  const holder = el("div");
  const show = (all) => holder.replaceChildren(sortable(`${group.title}${primary ? ` · ★: no other row${group.rows.some((i) => (rows[i].not_compared || []).length) ? " of like training" : ""} has a higher ${heading(primary)} for fewer GFLOPs` : ""}`, all ? [...base, ...more] : base, group.rows, (i) => !hidden.has(i)));
  show(false);
  redraws.push(() => holder.firstChild.redraw());
  return el("div", {}, el("div", { class: "controls" }, more.length ? check("all columns", false, show) : null), holder);
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
const draw = (node, traces, look) => Plotly.react(node, traces, look, { responsive: true, displaylogo: false, displayModeBar: !look.showlegend, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
function front(points) { // [x, y, …]: those that no other beats
  const order = [...points].sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  return order.filter((p, at) => order.slice(0, at).every((q) => q[1] < p[1]));
}
function paretoPlot(group) {
  const costs = Object.keys(COSTS).filter((key) => group.rows.some((i) => known(cost(rows[i], key))));
  const keys = unique([group.metric, ...metricsOf(group.rows)]).filter(known);
  let x = costs[0], y = keys[0], logarithmic = false;
  const node = el("div", { class: "plot", role: "img", "aria-label": "score against cost; the table has the same numbers" });
  const note = el("p", { class: "faint" });
  function redraw() {
    const points = group.rows.filter((i) => !hidden.has(i)).map((i) => [cost(rows[i], x), metric(rows[i], y), i]).filter((p) => known(p[0]) && known(p[1]));
    const factor = isShare(y) ? 100 : 1, models = unique(rows.map((row) => row.model));
    const shown = points.map((p) => rows[p[2]].name); // of runs with very different work none is said to be ahead
    const unequal = x !== "train_gflops" && points.some((p) => (rows[p[2]].not_compared || []).some((name) => shown.includes(name)));
    const line = unequal ? [] : front(points);
    note.textContent = (unequal ? "No Pareto front: runs that are shown had very different training work, or are undertrained." : "Dashed: the Pareto front; filled: on it.") + " The symbol is the model family, the colour the row. Bars: 95 % intervals, where known.";
    const spread = points.map((p) => (rows[p[2]].ci95 || {})[y]);
    const traces = [
      { x: line.map((p) => p[0]), y: line.map((p) => p[1] * factor), mode: "lines", line: { shape: "hv", dash: "dash", width: 1.5, color: style("--faint") }, hoverinfo: "skip" },
      {
        x: points.map((p) => p[0]), y: points.map((p) => p[1] * factor), mode: "markers+text", text: points.map((p) => rows[p[2]].name),
        textposition: points.map((p) => p[0] > 0.7 * Math.max(...points.map((q) => q[0])) ? "top left" : "top right"), cliponaxis: false,
        marker: { size: 13, color: points.map((p) => colourOf(p[2])), symbol: points.map((p) => SYMBOLS[models.indexOf(rows[p[2]].model) % SYMBOLS.length] + (line.includes(p) ? "" : "-open")), line: { width: 2, color: points.map((p) => colourOf(p[2])) } },
        error_y: spread.some(Boolean) ? { type: "data", symmetric: false, color: style("--faint"), thickness: 1.2, array: spread.map((c, k) => c && known(c[1]) ? (c[1] - points[k][1]) * factor : 0), arrayminus: spread.map((c, k) => c && known(c[0]) ? (points[k][1] - c[0]) * factor : 0) } : undefined,
        hovertemplate: `%{text}<br>${COSTS[x]} %{x:,.4~g}<br>${heading(y)} %{y:.1f}<extra></extra>`,
      },
    ];
    const look = layout(COSTS[x], heading(y) + (factor === 100 ? " × 100" : ""));
    look.xaxis.type = logarithmic ? "log" : "linear";
    if (!logarithmic) look.xaxis.rangemode = "tozero";
    draw(node, traces, look);
  }
  redraws.push(redraw);
  requestAnimationFrame(redraw);
  const pick = (options, name) => options.map((key) => [key, name(key)]);
  return el("div", {}, el("div", { class: "controls" },
    choice("cost", pick(costs, (key) => COSTS[key]), (value) => { x = value; redraw(); }),
    choice("score", pick(keys, heading), (value) => { y = value; redraw(); }),
    check("logarithmic cost", false, (on) => { logarithmic = on; redraw(); })),
  node, note);
}
function smooth(values) {
  let mean = values[0];
  return values.map((value) => (mean += 0.15 * (value - mean)));
}
function curves(group) {
  const runs = group.rows.filter((i) => data.details[i].log && (data.details[i].log.loss.length || data.details[i].log.scores.length));
  if (!runs.length) return null;
  const keys = unique([group.metric, ...runs.flatMap((i) => data.details[i].log.scores.flatMap((entry) => Object.keys(entry[2])))]).filter(known);
  let minutes = true, key = keys[0];
  const left = el("div", { class: "plot", role: "img", "aria-label": "training loss" }), right = el("div", { class: "plot", role: "img", "aria-label": "score during training" });
  function redraw() {
    const at = (entry) => (minutes ? entry[1] / 60 : entry[0]), title = minutes ? "minutes of training" : "steps";
    const shown = runs.filter((i) => !hidden.has(i));
    const line = (i) => ({ color: colourOf(i), width: 2, dash: DASHES[Math.floor(i / COLOURS.length) % 4] });
    const legend = { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 } };
    draw(left, shown.map((i) => ({ x: data.details[i].log.loss.map(at), y: smooth(data.details[i].log.loss.map((e) => e[2])), name: rows[i].name, mode: "lines", line: line(i) })), layout(title, "loss, smoothed", legend));
    const factor = key && isShare(key) ? 100 : 1;
    draw(right, shown.map((i) => {
      const entries = data.details[i].log.scores.filter((e) => known(e[2][key]));
      return { x: entries.map(at), y: entries.map((e) => e[2][key] * factor), name: rows[i].name, mode: "lines+markers", line: line(i), marker: { size: 8 } };
    }), layout(title, `${heading(key || "")}${factor === 100 ? " × 100" : ""}`, legend));
  }
  redraws.push(redraw);
  requestAnimationFrame(redraw);
  return el("div", {}, el("h3", {}, group.title), el("div", { class: "controls" },
    choice("over", [["minutes", "minutes of training"], ["steps", "steps"]], (value) => { minutes = value === "minutes"; redraw(); }),
    choice("score", keys.map((k) => [k, heading(k)]), (value) => { key = value; redraw(); })),
  el("div", { class: "pair" }, left, right));
}

// ---- classes
function classTable(group) {
  const runs = group.rows.filter((i) => Object.keys(data.details[i].per_class || {}).length);
  if (!runs.length) return null;
  const names = unique(runs.flatMap((i) => Object.keys(data.details[i].per_class)));
  const keys = unique(runs.flatMap((i) => Object.values(data.details[i].per_class).flatMap(Object.keys)));
  let key = keys.includes(group.metric) ? group.metric : keys[0], reference = -1;
  const of = (i, name) => { const value = (data.details[i].per_class[name] || {})[key]; return known(value) && value >= 0 ? value : null; };
  const holder = el("div");
  function fill() {
    const shown = runs.filter((i) => !hidden.has(i));
    const spread = (name) => { const all = shown.map((i) => of(i, name)).filter(known); return all.length > 1 ? Math.max(...all) - Math.min(...all) : null; };
    const delta = (i, name) => (known(of(i, name)) && known(of(reference, name)) ? of(i, name) - of(reference, name) : null);
    const columns = [
      { title: "class", left: true, text: (name) => name, order: (name) => name },
      ...shown.map((i) => reference < 0 || i === reference
        ? { title: rows[i].name, text: (name) => score(key, of(i, name)), order: (name) => of(i, name), shade: (name) => known(of(i, name)) && isShare(key) ? `linear-gradient(90deg, rgba(var(--good), .22) ${100 * of(i, name)}%, transparent 0)` : null }
        : { title: `${rows[i].name}\ndifference`, text: (name) => known(delta(i, name)) ? `${delta(i, name) > 0 ? "+" : ""}${(100 * delta(i, name)).toFixed(1)}` : "–", order: (name) => delta(i, name), shade: (name) => known(delta(i, name)) ? `rgba(var(${delta(i, name) < 0 ? "--bad" : "--good"}), ${Math.min(0.65, 2 * Math.abs(delta(i, name)))})` : null }),
      { title: "largest\ndifference", text: (name) => score(key, spread(name)), order: spread },
    ];
    holder.replaceChildren(sortable(`${heading(key)} of each class, ${group.title}`, columns, names, () => true));
  }
  redraws.push(fill);
  fill();
  return el("div", {}, el("div", { class: "controls" },
    choice("score", keys.map((k) => [k, heading(k)]), (value) => { key = value; fill(); }),
    choice("show", [["-1", "scores"], ...runs.map((i) => [String(i), `differences to ${rows[i].name}`])], (value) => { reference = Number(value); fill(); })), holder);
}

// ---- costs, recipes, environment
function plainTable(caption, titles, lines) {
  const cell = (value, at) => el(at ? "td" : "th", { scope: at ? null : "row", class: "text wrap" }, String(value ?? "–"));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, el("table", {},
    el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col", class: "text" }, title)))), el("tbody", {}, lines.map((line) => el("tr", {}, line.map(cell))))));
}
function parts(i) {
  const { parts: all, flops_uncounted: uncounted, gflops_input: input } = data.details[i].cost;
  const lines = Object.entries(all || {}).map(([name, p]) => [name, number(p.params / 1e6, 2), number(p.gflops, 2), p.regions ? `${p.regions} × ${number(p.gflops_per_region, 4)}` : "–"]);
  const percent = (share) => (known(share) ? ` (${(100 * share).toFixed(0)} %)` : "");
  const named = (uncounted || []).filter((u) => !u.elementwise).map((u) => `${u.op} ×${u.calls}${percent(u.share)}`);
  const simple = (uncounted || []).filter((u) => u.elementwise).reduce((sum, u) => sum + u.share, 0);
  const where = rows[i].measured_on || {}, time = rows[i].latency_ms || {};
  return el("details", {}, el("summary", {}, swatch(colourOf(i)), ` ${rows[i].name}`),
    plainTable(`cost of ${rows[i].name} by part`, ["part", "params, M", "GFLOPs", "regions × GFLOPs of each"], lines),
    el("p", { class: "faint" }, `At ${(input || []).join(" × ")}, 1 multiply-add = 1 FLOP. Not counted, with the share of all calls that compute: ${[...named, simple ? `elementwise operators (${(100 * simple).toFixed(0)} %)` : null].filter(Boolean).join(", ") || "nothing"}. Latency on ${where.device || "?"}, ${where.threads ?? "?"} threads, batch ${where.batch ?? "?"}, ${time.repeats ?? "?"} runs after ${time.warmup ?? "?"} to warm up${rows[i].machine ? `; ${(100 * rows[i].machine.share).toFixed(0)} % of the ${rows[i].machine.gflops_per_second} GFLOP/s of a large matrix product there` : ""}.`));
}
function forecasts() {
  const told = rows.filter((row) => row.forecast);
  if (!told.length) return null;
  return [el("h3", {}, "Recipes that are not trained: what training takes here"), plainTable("forecast", ["name", "steps", "training, min", "evaluation, min", "memory, MB", "disk, MB", "this machine"],
    told.map(({ name, forecast: f }) => [name, number(f.steps), number(f.train_minutes, 1), number(f.evaluation_minutes, 1), number(f.peak_memory_mb), number(f.disk_mb), f.possible === null ? "not known" : f.possible ? "can do it" : `can't: ${f.reasons.join("; ")}`]))];
}
function pairTable() {
  const pairs = data.document.pairs;
  if (!pairs.length) return null;
  const points = (key, value) => (known(value) ? (isShare(key) ? 100 * value : value).toFixed(1) : "–");
  return el("details", { open: pairs.length <= 6 }, el("summary", {}, "Every pair: a − b and its 95 % interval"), plainTable("pairs", ["a", "b", "score", "difference", "95 % interval", "real?"],
    pairs.map((p) => [p.a, p.b, heading(p.metric), points(p.metric, p.delta), p.ci95 ? `${points(p.metric, p.ci95[0])} to ${points(p.metric, p.ci95[1])}` : "–", p.unequal ? `not compared: ${p.unequal}` : p.significant ? "yes" : "can't be told"])));
}

// ---- the page
function build() {
  const theme = el("button", { type: "button", onclick: () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    redraws.forEach((redraw) => redraw());
  } }, "light / dark");
  const nav = el("nav", { "aria-label": "sections" });
  main.append(el("header", {}, el("h1", {}, "segcli compare"), theme, nav));
  const verdict = [data.document.verdict ?? data.document.verdicts ?? []].flat().filter((line) => typeof line === "string");
  if (verdict.length) main.append(el("div", { class: "verdict", id: "verdict" }, verdict.map((line) => el("p", {}, line))));
  if (rows.length > 1) {
    main.append(el("div", { class: "bar", role: "group", "aria-label": "models shown" }, rows.map((row, i) => {
      const box = el("input", { type: "checkbox", checked: true, onchange: () => { box.checked ? hidden.delete(i) : hidden.add(i); redraws.forEach((redraw) => redraw()); } });
      return el("label", { class: "chip" }, box, swatch(colourOf(i)), row.name);
    })));
  }
  const notes = unique([...(data.document.notes || []), ...data.notes, ...(data.document.skipped || []).map((s) => `skipped ${s.item}: ${s.error}`)]);
  section("table", "Cost and score", data.groups.map(comparisonTable), pairTable(), forecasts(), notes.length ? el("ul", { class: "faint" }, notes.map((note) => el("li", {}, note))) : null);
  const each = (make) => data.groups.map(make).filter(Boolean);
  const scored = data.groups.filter((group) => group.metric);
  if (scored.length) section("plot", "Score against cost", scored.map((group) => [el("h3", {}, group.title), paretoPlot(group)]).flat());
  const classes = each(classTable), images = each(pictures), logs = each(curves);
  if (classes.length) section("classes", "Class by class", classes);
  if (images.length) section("images", "Where they disagree", images);
  if (logs.length) section("curves", "Training", logs);
  const runs = rows.map((_, i) => i).filter((i) => data.details[i].cost);
  if (runs.length) section("costs", "Costs part by part", runs.map(parts));
  const different = data.groups.filter((group) => group.recipes.length);
  if (different.length) section("recipes", "Where the recipes differ", different.map((group) => [el("h3", {}, group.title), plainTable("recipe differences", ["key", ...group.rows.filter((i) => rows[i].source === "run").map((i) => rows[i].name)], group.recipes.map((line) => [line.key, ...line.values]))]).flat());
  if (runs.length) {
    const keys = Object.keys(data.details[runs[0]].environment);
    const lines = [...keys.map((key) => [key, ...runs.map((i) => data.details[i].environment[key])]),
      ["dataset", ...runs.map((i) => data.details[i].dataset.name)], ["its licence", ...runs.map((i) => data.details[i].dataset.licence)],
      ["its version", ...runs.map((i) => (data.details[i].dataset.fingerprint || "").slice(0, 12))],
      ["weights and their licences", ...runs.map((i) => data.details[i].weights.map((w) => `${w.source}: ${w.licence}`).join("; ") || "random")]];
    section("environment", "Environment and licences", plainTable("environment", ["", ...runs.map((i) => rows[i].name)], lines), el("p", { class: "faint" }, `Made by segcli ${data.version}. This file holds all that it shows: it loads nothing from elsewhere.`));
  }
  for (const one of main.querySelectorAll("section")) nav.append(el("a", { href: `#${one.id}` }, one.querySelector("h2").textContent));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
}
build();
