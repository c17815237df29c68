"use strict";
// The images of the report: labels and predictions side by side, and the enlarged view. Builders are in page.js.
const look = { masks: true, boxes: false, names: true, labels: true, score: 0.5 };
function panel(picture, shown, classes) {
  const letters = Math.max(7, Math.max(picture.width, picture.height) / 34); // height of a name
  const layer = el("g"), names = el("g"), placed = []; // names come last, above all masks
  for (const object of shown.objects) {
    if (known(object.score) && object.score < look.score) continue;
    const colour = `rgb(${classes[object.label].colour.join(",")})`;
    if (look.masks && object.path) layer.append(el("path", { d: object.path, class: "mask", fill: colour, stroke: colour }));
    const [x1, y1, x2, y2] = object.box;
    if (look.boxes || !object.path) layer.append(el("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: "box", stroke: colour }));
    if (look.names) {
      const text = classes[object.label].name + (known(object.score) && object.score < 1 ? ` ${Math.round(100 * object.score)}` : "");
      const late = x1 > 0.7 * picture.width; // a name that begins there would be cut
      const x = late ? Math.min(x2, picture.width - 1) : x1 + 1, wide = 0.62 * letters * text.length, left = late ? x - wide : x;
      let y = Math.max(y1 - 2, letters);
      const taken = () => placed.some((one) => Math.abs(one.y - y) < letters && left < one.left + one.wide && one.left < left + wide);
      while (taken() && y + letters < picture.height) y += letters; // no name over another one
      placed.push({ y, left, wide });
      names.append(el("text", { x, y, "text-anchor": late ? "end" : "start" }, text));
    }
  }
  return el("svg", { class: "look", viewBox: `0 0 ${picture.width} ${picture.height}`, preserveAspectRatio: "xMidYMid meet", style: `--size:${letters}px` },
    el("image", { href: `data:image/jpeg;base64,${picture.jpeg}`, width: picture.width, height: picture.height }), layer, names);
}
// a button that shows the meshes of a panel, to be turned by the pointer; null without any
function solid(shown, title, classes) {
  const wanted = (shown.solids || []).filter((s) => !known(s.score) || s.score >= look.score);
  if (!wanted.length) return null;
  const holder = el("div", { class: "solid" });
  return el("div", {}, el("button", { type: "button", "aria-label": `3D view, ${title}`, onclick: (event) => {
    event.target.remove();
    turnable(holder, wanted.map((s) => ({ ...s, name: classes[s.label].name, colour: `rgb(${classes[s.label].colour.join(",")})` })));
  } }, "3D"), holder);
}
// [panel, title, mark] of those that are switched on; a panel's row is a position in its group, or the kind of labels
function panelsOf(picture, group) {
  const labels = picture.panels.filter((p) => typeof p.row === "string").length;
  return picture.panels.filter((p) => (typeof p.row === "string" ? look.labels : !hidden.has(group.rows[p.row]))).map((p) => {
    if (typeof p.row === "string") return [p, labels > 1 ? `labels (${p.row})` : "labels", null];
    return [p, rows[group.rows[p.row]].name, swatch(colourOf(group.rows[p.row]))];
  });
}
function pictures(group) {
  const found = group.pictures;
  if (!found || !found.images.length) return null;
  const holder = el("div");
  const labels = new Set(found.images.flatMap((picture) => picture.panels.flatMap((p) => p.objects.map((o) => o.label))));
  const drawn = found.classes.filter((_, label) => labels.has(label));
  function fill() {
    holder.replaceChildren(...found.images.map((picture, at) => el("article", { class: "case" },
      el("h3", {}, `${at + 1}. ${picture.name} `, el("span", { class: "faint" }, `disagreement ${picture.disagreement.toFixed(2)}`)),
      el("div", { class: "panels" }, panelsOf(picture, group).map(([p, title, mark]) => el("figure", {}, el("figcaption", {}, mark, title),
        el("button", { type: "button", "aria-label": `enlarge ${picture.name}, ${title}`, onclick: () => enlarge(group, at) }, panel(picture, p, found.classes)), solid(p, title, found.classes)))))));
  }
  redraws.push(fill);
  fill();
  const value = el("output", {}, look.score.toFixed(2));
  const slider = el("input", { type: "range", min: Math.min(0.1, look.score), max: 0.95, step: look.score < 0.5 ? 0.01 : 0.05, value: look.score, "aria-label": "least score", oninput: () => { look.score = Number(slider.value); value.textContent = look.score.toFixed(2); fill(); } });
  const toggle = (name, key) => check(name, look[key], (on) => { look[key] = on; fill(); });
  const runs = found.runs > 1 ? "the models disagree" : "the model and the labels disagree";
  return el("div", {}, el("h3", {}, group.title), el("p", { class: "faint" }, `The ${found.images.length} of ${found.looked_at}${found.looked_at < found.of ? ` looked at, of ${found.of},` : ""} images on which ${runs} most: 1 − the quality of one prediction judged by another, at score ≥ ${found.score}, averaged over pairs.${found.score < 0.5 ? " No detection reaches 0.5: those from that score on are drawn." : ""}`),
    el("div", { class: "controls" }, toggle("labels", "labels"), toggle("masks", "masks"), toggle("boxes", "boxes"), toggle("names", "names"), el("label", {}, "score ≥", slider, value)),
    el("div", { class: "legend" }, drawn.slice(0, 40).map((c) => el("span", {}, swatch(`rgb(${c.colour.join(",")})`), c.name))), holder);
}
function enlarge(group, start) {
  const found = group.pictures;
  let at = start, view = null;
  const stage = el("div", { class: "stage" }), caption = el("strong", {});
  function apply() {
    for (const svg of stage.querySelectorAll("svg")) {
      svg.setAttribute("viewBox", view.join(" "));
      svg.style.setProperty("--zoom", view[2] / found.images[at].width);
    }
  }
  function zoom(factor, x = view[0] + view[2] / 2, y = view[1] + view[3] / 2) {
    const picture = found.images[at], width = Math.min(picture.width, Math.max(picture.width / 40, view[2] / factor));
    const real = view[2] / width;
    view = [x - (x - view[0]) / real, y - (y - view[1]) / real, width, view[3] / real];
    apply();
  }
  function move(x, y) { view[0] += x * view[2]; view[1] += y * view[3]; apply(); }
  function fill() {
    const picture = found.images[at];
    view = [0, 0, picture.width, picture.height];
    caption.textContent = `${at + 1} of ${found.images.length}: ${picture.name}`;
    const count = panelsOf(picture, group).length;
    const columns = innerWidth < 700 ? (count > 2 ? 2 : 1) : count <= 3 ? count : Math.ceil(Math.sqrt(count));
    stage.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    stage.replaceChildren(...panelsOf(picture, group).map(([p, title, mark]) => {
      const svg = panel(picture, p, found.classes);
      const scale = () => Math.max(view[2] / svg.clientWidth, view[3] / svg.clientHeight);
      svg.addEventListener("wheel", (event) => {
        event.preventDefault();
        const box = svg.getBoundingClientRect(), s = scale();
        zoom(event.deltaY < 0 ? 1.25 : 0.8, view[0] + view[2] / 2 + (event.clientX - box.left - box.width / 2) * s, view[1] + view[3] / 2 + (event.clientY - box.top - box.height / 2) * s);
      }, { passive: false });
      svg.addEventListener("pointermove", (event) => { if (event.buttons) { view[0] -= event.movementX * scale(); view[1] -= event.movementY * scale(); apply(); } });
      return el("figure", {}, el("figcaption", {}, mark, title), svg);
    }));
  }
  const step = (by) => { at = (at + by + found.images.length) % found.images.length; fill(); };
  const button = (text, label, onclick) => el("button", { type: "button", "aria-label": label, title: label, onclick }, text);
  const dialog = el("dialog", { "aria-label": "enlarged picture" },
    el("div", { class: "controls" }, caption, button("←", "previous image", () => step(-1)), button("→", "next image", () => step(1)), button("+", "zoom in", () => zoom(1.5)), button("−", "zoom out", () => zoom(1 / 1.5)), button("1:1", "whole image", fill), button("close", "close", () => dialog.close())), stage,
    el("p", { class: "faint", style: "margin:0" }, "All panels move together. Wheel or + −: zoom · drag or Shift + arrows: move · ← →: other images · Esc: close"));
  dialog.addEventListener("keydown", (event) => {
    const arrows = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (event.key in arrows && event.shiftKey) move(...arrows[event.key]);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") step(event.key === "ArrowLeft" ? -1 : 1);
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else return;
    event.preventDefault();
  });
  const before = document.activeElement;
  dialog.addEventListener("close", () => { dialog.remove(); if (before) before.focus(); });
  main.append(dialog);
  fill();
  dialog.showModal();
}
