"use strict";
// The page of `segcli visualize explain`: explain/page.py has made all pictures and maps in `data`; here they are chosen.
const INFERNO = [[0, 0, 4], [22, 11, 57], [66, 10, 104], [106, 23, 110], [147, 38, 103], [188, 55, 84], [221, 81, 58], [243, 120, 25], [252, 165, 10], [246, 215, 70], [252, 255, 164]];
const LUT = Array.from({ length: 256 }, (_, v) => {
  const at = (v / 255) * (INFERNO.length - 1), low = Math.min(Math.floor(at), INFERNO.length - 2);
  return INFERNO[low].map((c, k) => Math.round(c + (INFERNO[low + 1][k] - c) * (at - low)));
});
const heat = (share) => `rgb(${LUT[Math.max(0, Math.min(255, Math.round(share * 255)))].join(",")})`;
const strength = (share) => `hsl(${265 - 210 * share} 85% ${38 + 22 * share}%)`;

// the image with a layer of SVG in its pixels; onpick(x, y) with the pixel that was clicked
function board(onpick) {
  const layer = el("g");
  const svg = el("svg", { class: "look", viewBox: `0 0 ${data.width} ${data.height}`, preserveAspectRatio: "xMinYMin meet", role: "img", "aria-label": `${data.title}: click to choose` },
    el("image", { href: data.image, width: data.width, height: data.height }), layer);
  if (onpick) {
    svg.style.cursor = "crosshair";
    svg.addEventListener("click", (event) => {
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      onpick(Math.max(0, Math.min(data.width - 1, place.x)), Math.max(0, Math.min(data.height - 1, place.y)));
    });
  }
  return { svg, layer };
}
const rectangle = ([x1, y1, x2, y2], attributes) => el("rect", { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1), fill: "none", "vector-effect": "non-scaling-stroke", ...attributes });
const unit = () => Math.max(data.width, data.height) / 100; // a hundredth of the image

function maps(one) {
  const [h, w] = one.size, canvas = el("canvas", { width: w, height: h });
  let chosen = -1, pixels = null;
  const { svg, layer } = board((x, y) => {
    if (one.cells) return show(Math.min(h - 1, Math.floor(y / one.covered[0] * h)) * w + Math.min(w - 1, Math.floor(x / one.covered[1] * w)), [x, y]);
    if (!one.boxes) return;
    const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1); // the smallest box around the point
    const around = one.boxes.map((box, k) => [k, box]).filter(([, [x1, y1, x2, y2]]) => x >= x1 && x <= x2 && y >= y1 && y <= y2);
    if (around.length) show(around.sort((a, b) => area(a[1]) - area(b[1]))[0][0]);
  });
  const select = el("select", { "aria-label": "shown", onchange: () => show(Number(select.value)) }, one.cells ? [] : one.names.map((name, k) => el("option", { value: k }, name)));
  const note = el("p", { class: "faint chosen" });
  const step = (by) => show((chosen + by + one.most.length) % one.most.length);
  const button = (text, label, by) => el("button", { type: "button", "aria-label": label, onclick: () => step(by) }, text);
  function show(k, clicked) {
    if (!pixels) return;
    chosen = k;
    const left = (k % one.across) * w, top = Math.floor(k / one.across) * h, image = new ImageData(w, h);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const v = pixels.data[((top + y) * pixels.width + left + x) * 4], at = (y * w + x) * 4;
        image.data.set([...LUT[v], Math.round(255 * (0.12 + 0.8 * (v / 255) ** 0.6))], at);
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    const [rows, columns] = one.covered;
    layer.replaceChildren(el("image", { href: canvas.toDataURL(), width: columns, height: rows, preserveAspectRatio: "none", style: "image-rendering:pixelated" }));
    if (one.boxes && one.boxes[k]) layer.append(rectangle(one.boxes[k], { stroke: "#5ac8ff", "stroke-width": 2.5 }));
    for (const [x, y, weight] of one.points ? one.points[k] : []) layer.append(el("circle", { cx: x, cy: y, r: unit() * (0.35 + 0.9 * Math.sqrt(weight)), fill: heat(0.35 + 0.65 * weight), stroke: "#000", "stroke-width": unit() * 0.12 }));
    const middle = (at, step, end) => (at * step + Math.min((at + 1) * step, end)) / 2; // of what the image has of a cell
    const cell = one.cells ? [middle(k % w, columns / w, data.width), middle(Math.floor(k / w), rows / h, data.height)] : null;
    if (cell) layer.append(el("circle", { cx: cell[0], cy: cell[1], r: unit(), fill: "none", stroke: "#5ac8ff", "stroke-width": unit() * 0.4 }));
    note.textContent = `${one.names[k] || `cell ${k % w + 1} of row ${Math.floor(k / w) + 1}`} · at most ${Number(one.most[k].toPrecision(3))}`;
    if (!one.cells) select.value = String(k);
    svg.dataset.chosen = k;
  }
  const sprite = new Image();
  sprite.onload = () => {
    const sheet = new OffscreenCanvas(sprite.width, sprite.height).getContext("2d", { willReadFrequently: true });
    sheet.drawImage(sprite, 0, 0);
    pixels = sheet.getImageData(0, 0, sprite.width, sprite.height);
    show(one.cells ? Math.floor(h / 2) * w + Math.floor(w / 2) : 0);
  };
  sprite.src = one.sprite;
  const hint = one.cells ? "Click a point of the image." : one.boxes ? "Choose from the list, or click an object." : "Choose from the list.";
  return el("div", { class: "widget" }, controls(one.cells ? null : select, one.most.length > 1 ? [button("←", "previous", -1), button("→", "next", 1)] : null, el("span", { class: "faint" }, hint)), svg, note);
}

function boxes(one) {
  const { svg, layer } = board(null), note = el("p", { class: "faint chosen" });
  let set = one.sets[one.sets.length - 1], count = one.shown;
  const slider = el("input", { type: "range", min: 1, max: Math.max(1, ...one.sets.map((s) => s.boxes.length)), value: count, "aria-label": "boxes shown", oninput: () => { count = Number(slider.value); fill(); } });
  function fill() {
    const shown = set.boxes.slice(0, count).map((box, k) => [box, k]).reverse(), top = Math.max(1e-9, ...set.strengths);
    layer.replaceChildren(...shown.map(([box, k]) => rectangle(box, { stroke: strength(set.strengths[k] / top), "stroke-width": 2, "pointer-events": "all", class: "box-shown" })));
    [...layer.children].forEach((node, at) => node.append(el("title", {}, set.texts[shown[at][1]])));
    layer.append(...shown.filter(([, k]) => k < 12).map(([box, k]) => el("text", { x: Math.max(0, box[0]), y: Math.max(box[1] - 2, unit() * 2.6), style: `--size:${unit() * 2.4}px` }, set.texts[k])));
    note.textContent = `${Math.min(count, set.boxes.length)} of ${set.boxes.length} boxes`;
  }
  const select = choice("shown", one.sets.map((s, k) => [k, s.name]), (k) => { set = one.sets[k]; fill(); });
  select.querySelector("select").value = String(one.sets.length - 1);
  fill();
  return el("div", { class: "widget" }, controls(select, el("label", {}, "boxes", slider)), svg, note);
}

function matrix(one) {
  const flat = one.values.flat(), low = Math.min(...flat), high = Math.max(...flat), note = el("p", { class: "faint chosen" });
  const marked = new Set(one.marked.map((place) => place.join()));
  const shown = (v) => (Math.abs(v) >= 100 ? v.toFixed(0) : v.toFixed(2));
  const cell = (r, c) => {
    const value = one.values[r][c], share = (value - low) / Math.max(high - low, 1e-9);
    const parts = Object.entries(one.parts).map(([name, values]) => `${name} ${shown(values[r][c])}`).join(" · ");
    const tell = () => { note.textContent = `${one.rows[r]} × ${one.columns[c]}: ${shown(value)}${parts ? ` = ${parts}` : ""}${marked.has(`${r},${c}`) ? " · matched" : ""}`; };
    return el("td", { class: marked.has(`${r},${c}`) ? "marked" : "", style: `background:${heat(share)};color:${share > 0.6 ? "#000" : "#fff"}` }, el("button", { type: "button", class: "cell", onclick: tell }, shown(value)));
  };
  const table = el("table", { class: "matrix" }, el("thead", {}, el("tr", {}, el("th"), one.columns.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, one.rows.map((name, r) => el("tr", {}, el("th", { scope: "row" }, name), one.columns.map((_, c) => cell(r, c))))));
  return el("div", { class: "widget" }, scroll("a table of numbers; click a cell for what it is made of", table), note);
}

function solids(one) {
  const holder = el("div", { class: "solid" });
  const fill = (k) => turnable(holder, [{ ...one.meshes[k], colour: "#e69f00" }]);
  const show = el("button", { type: "button", onclick: () => { // WebGL begins when it is asked for
    show.replaceWith(choice("mesh", one.meshes.map((m, k) => [k, m.name]), fill));
    fill(0);
  } }, "3D");
  return el("div", { class: "widget" }, controls(show, el("span", { class: "faint" }, "Turn it with the pointer; the wheel zooms.")), holder);
}

function gallery(one) {
  const groups = [...new Set(one.pictures.map((p) => p[2]))], holder = el("div", { class: "gallery" });
  function fill(group) {
    holder.replaceChildren(...one.pictures.filter((p) => p[2] === group).map(([src, caption, , width, height]) =>
      el("figure", {}, el("img", { src, width, height, alt: caption, loading: "lazy" }), el("figcaption", {}, caption))));
    holder.style.setProperty("--columns", Math.min(one.columns, holder.children.length));
  }
  if (one.pictures.length) fill(groups[0]);
  return el("div", {}, groups.length > 1 ? controls(choice("shown", groups.map((g) => [g, g]), fill)) : null, holder);
}

const WIDGETS = { maps, boxes, matrix, solids };
function build() {
  const nav = el("nav", { "aria-label": "views" });
  main.append(el("header", {}, el("h1", {}, data.title), themeButton(), nav));
  for (const one of data.sections) {
    section(one.name, one.title, el("p", { class: "sees" }, one.sees), one.facts.map((fact) => el("p", {}, fact)), one.widgets.map((w) => WIDGETS[w.kind](w)), gallery(one),
      el("p", { class: "faint" }, el("a", { href: one.paper[1], rel: "noreferrer" }, one.paper[0])),
      el("details", {}, el("summary", { class: "faint" }, one.code[0]), scroll(`source of ${one.code[0]}`, el("pre", {}, one.code[1]))));
  }
  listSections(nav);
  main.append(el("p", { class: "faint" }, `Made by segcli ${data.version}. This file holds all that it shows: it loads nothing from elsewhere.`));
}
build();
