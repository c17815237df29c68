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
