// The whole tree as one small picture: a box for each node, below the box of its parent, as wide as it has leaves.
import { el } from "./dom.js";

const MOST = 88; // pixels of height
const BOX = 14; // pixels of a box's height at most

export class TreeMap {
  constructor(model, pick) {
    this.model = model;
    this.canvas = el("canvas", { class: "map", role: "img", on: { click: (event) => pick(this.nodeAt(event)) } });
    this.canvas.setAttribute(
      "aria-label",
      "The tree as boxes, each below its parent; the colour is the score, the chosen path has a line",
    );
    this.canvas.title = "the whole tree: colour is the score, the chosen path has a line; click for a node";
    const { size, parent, order } = model;
    this.leaves = new Int32Array(size);
    for (let node = size - 1; node >= 0; node--) {
      if (model.children[node] === 0) this.leaves[node] = 1;
      if (node > 0) this.leaves[parent[node]] += this.leaves[node];
    }
    this.left = new Int32Array(size);
    const free = new Int32Array(size);
    for (const node of order) {
      if (node > 0) {
        this.left[node] = free[parent[node]];
        free[parent[node]] += this.leaves[node];
      }
      free[node] = this.left[node];
    }
    this.levels = model.level.reduce((most, each) => Math.max(most, each), 0) + 1;
    this.height = Math.min(MOST, BOX * this.levels);
    this.canvas.style.setProperty("--height", this.height);
    new ResizeObserver(() => this.draw(this.view)).observe(this.canvas);
  }

  // After a change of the theme.
  recolour() {
    this.colours = null;
    this.draw(this.view);
  }

  draw(view) {
    if (!view) return;
    this.view = view;
    const width = this.canvas.clientWidth;
    if (!width) return;
    const scale = window.devicePixelRatio || 1;
    const context = this.canvas.getContext("2d");
    if (this.canvas.width !== Math.round(width * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(this.height * scale);
      context.scale(scale, scale);
    }
    context.clearRect(0, 0, width, this.height);
    const { model, leaves, left, levels } = this;
    const colours = (this.colours ??= palette(this.canvas));
    const across = width / leaves[0];
    const down = this.height / levels;
    const gap = down > 4 ? 1 : 0;
    const drawn = new Float64Array(levels).fill(-1);
    const box = (node) => [left[node] * across, model.level[node] * down, leaves[node] * across];
    for (const node of model.order) {
      const [x, y, wide] = box(node);
      const level = model.level[node];
      if (x + wide - drawn[level] < 0.6 && !model.chosen[node]) continue;
      drawn[level] = x + wide;
      const score = model.number("score", node);
      const there = node <= view.time;
      context.globalAlpha = !there
        ? 0.1
        : model.truth("pruned", node)
          ? 0.3
          : view.keep && !view.keep[node]
            ? 0.25
            : 0.9;
      context.fillStyle = node === 0 || score === null ? colours.none : colours.of(score);
      context.fillRect(x, y, Math.max(0.5, wide - (wide > 3 ? 1 : 0)), Math.max(0.5, down - gap));
    }
    context.globalAlpha = 1;
    context.fillStyle = colours.ink;
    for (let node = 1; node < model.size; node++) {
      if (!model.chosen[node] || node > view.time) continue;
      const [x, y, wide] = box(node);
      context.fillRect(x, y + Math.max(0, down - gap - 3), Math.max(2, wide - 1), Math.min(3, down));
    }
    const [x, y, wide] = box(view.selected);
    context.strokeStyle = colours.ink;
    context.lineWidth = 2;
    context.strokeRect(x + 1, y + 1, Math.max(3, wide - 2), Math.max(2, down - 2));
  }

  nodeAt(event) {
    const { left, top, width } = this.canvas.getBoundingClientRect();
    const leaf = ((event.clientX - left) / width) * this.leaves[0];
    const level = Math.min(this.levels - 1, Math.floor(((event.clientY - top) / this.height) * this.levels));
    let found = 0;
    for (const node of this.model.order) {
      const inside = this.left[node] <= leaf && leaf < this.left[node] + this.leaves[node];
      if (inside && this.model.level[node] <= level) found = node;
    }
    return found;
  }
}

const SHADES = 64; // of a score; a canvas takes long to read a colour that it has not just had

// The colours of scores as the style sheet has them, mixed between low, middle and high.
function palette(element) {
  const style = getComputedStyle(element);
  const read = (name) => style.getPropertyValue(name).trim();
  const stops = ["--low", "--middle", "--high"].map((name) => rgb(read(name)));
  const shades = Array.from({ length: SHADES + 1 }, (_, number) => {
    const at = Math.min(1.999, (2 * number) / SHADES);
    const [from, to] = [stops[Math.floor(at)], stops[Math.floor(at) + 1]];
    const part = at - Math.floor(at);
    return `rgb(${from.map((each, i) => Math.round(each + part * (to[i] - each))).join(" ")})`;
  });
  return { none: read("--faint"), ink: read("--ink"), of: (score) => shades[Math.round(score * SHADES)] };
}

function rgb(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}
