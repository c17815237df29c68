"use strict";
// What every page begins with: its data, builders of elements, controls, the switch between light and dark.
const data = JSON.parse(document.getElementById("data").textContent);
const redraws = []; // what is drawn again when something is switched on or off, or the theme changes
const main = document.getElementById("report");

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "image", "path", "rect", "text", "g", "circle"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}
const known = (value) => value !== null && value !== undefined;
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
const controls = (...parts) => el("div", { class: "controls" }, ...parts);
const scroll = (caption, table) => el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table);
const redraw = () => redraws.forEach((one) => one());
const themeButton = () => el("button", { type: "button", onclick: () => {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  redraw();
} }, "light / dark");
function listSections(nav) {
  for (const one of main.querySelectorAll("section")) nav.append(el("a", { href: `#${one.id}` }, one.querySelector("h2").textContent));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
// plots, once their library is there: it stands last in the file, so that the rest is seen without waiting for it
const plotting = (make) => (window.Plotly ? make() : addEventListener("load", make, { once: true }));
// meshes to be turned by the pointer, in `holder`: {points, corners, name, colour} of each; the page holds plotly
function turnable(holder, meshes) {
  const every = (values, k) => values.filter((_, i) => i % 3 === k), axis = { visible: false };
  const traces = meshes.map((s) => ({ type: "mesh3d", name: s.name, hoverinfo: "name", flatshading: true, color: s.colour,
    x: every(s.points, 0), y: every(s.points, 1), z: every(s.points, 2), i: every(s.corners, 0), j: every(s.corners, 1), k: every(s.corners, 2) }));
  plotting(() => Plotly.react(holder, traces, { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", uirevision: "kept", scene: { xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "data", camera: { up: { x: 0, y: 1, z: 0 }, eye: { x: 0.6, y: 0.5, z: 1.6 } } } }, { displayModeBar: false, responsive: true }));
}
