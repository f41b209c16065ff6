// Charts as SVG: points with intervals over an axis, differences with intervals, and bars of parts.
import { clear, el, svg } from "./dom.js";

const MARKERS = [
  (r) => `M${-r},0A${r},${r} 0 1 0 ${r},0A${r},${r} 0 1 0 ${-r},0Z`,
  (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
  (r) => `M0,${-1.2 * r}L${1.15 * r},${r}H${-1.15 * r}Z`,
  (r) => `M0,${-1.35 * r}L${1.35 * r},0L0,${1.35 * r}L${-1.35 * r},0Z`,
  (r) => `M0,${1.2 * r}L${1.15 * r},${-r}H${-1.15 * r}Z`,
  (r) => `M${-r},${-r}L${r},${r}M${r},${-r}L${-r},${r}`,
  (r) => `M0,${-1.3 * r}V${1.3 * r}M${-1.3 * r},0H${1.3 * r}`,
];
export const COLOURS = 7;

// A drawing that follows the width of its place; `draw(width)` returns an SVG element.
export function responsive(draw) {
  const box = el("div", { class: "chart" });
  let width = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    if (width) clear(box).append(draw(width));
  }).observe(box);
  return box;
}

// The sign of a series in a legend and in a chart: a colour and a shape of its own.
export function mark(number, radius = 4) {
  const shape = MARKERS[number % MARKERS.length](radius);
  return svg("path", { d: shape, class: `mark-${number % COLOURS} ${number % MARKERS.length > 4 ? "thin" : ""}` });
}

export function legend(names) {
  const entries = names.map(([number, text]) =>
    el(
      "span",
      { class: "key" },
      svg("svg", { width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, mark(number)),
      text,
    ),
  );
  return el("p", { class: "legend" }, ...entries);
}

// What stands beside a point while a pointer is over it.
function tip(target, text) {
  target.append(svg("title", {}, text));
  target.setAttribute("tabindex", 0);
  return target;
}

// Points with intervals. Series: {mark, joined, points: [{x, y, low, high, tip, size}]}. The x of a chart with
// `categories` is the place in that list.
export function pointChart(width, { height = 260, series, x, y, diagonal = false }) {
  const margin = { left: 46, right: 14, top: 10, bottom: 40 };
  const inner = {
    width: Math.max(60, width - margin.left - margin.right),
    height: height - margin.top - margin.bottom,
  };
  const all = series.flatMap((each) => each.points);
  const down = linear(y.domain, [inner.height, 0]);
  const across = x.categories
    ? linear([-0.5, x.categories.length - 0.5], [0, inner.width])
    : (x.log ? logarithmic : linear)(
        x.domain ??
          spread(
            all.map((point) => point.x),
            x.log,
          ),
        [0, inner.width],
      );
  const body = svg("g", { transform: `translate(${margin.left},${margin.top})` });
  for (const tick of ticks(y.domain, 5)) {
    body.append(svg("line", { class: "grid", x1: 0, x2: inner.width, y1: down(tick), y2: down(tick) }));
    body.append(text(-8, down(tick) + 4, y.format(tick), "end"));
  }
  const marks = x.categories
    ? x.categories.map((name, at) => [at, name])
    : (x.log ? logTicks : ticks)(across.domain, width < 420 ? 4 : 6).map((tick) => [tick, x.format(tick)]);
  for (const [at, name] of marks) {
    body.append(svg("line", { class: "tick", x1: across(at), x2: across(at), y1: inner.height, y2: inner.height + 5 }));
    body.append(text(across(at), inner.height + 18, name, "middle"));
  }
  body.append(svg("line", { class: "axis", x1: 0, x2: inner.width, y1: inner.height, y2: inner.height }));
  body.append(text(inner.width / 2, inner.height + 36, x.label, "middle", "axis-label"));
  if (diagonal) body.append(svg("line", { class: "diagonal", x1: across(0), y1: down(0), x2: across(1), y2: down(1) }));
  for (const { mark: number, joined, points } of series) {
    const kind = `mark-${number % COLOURS}`;
    const sorted = points.filter((point) => point.y !== null).sort((a, b) => a.x - b.x);
    if (joined && sorted.length > 1) {
      const path = sorted.map((point, at) => `${at ? "L" : "M"}${across(point.x)},${down(point.y)}`).join("");
      body.append(svg("path", { d: path, class: `line ${kind}` }));
    }
    for (const point of sorted) {
      const group = svg("g", { class: "point", transform: `translate(${across(point.x)},0)` });
      group.append(svg("line", { class: `error ${kind}`, x1: 0, x2: 0, y1: down(point.low), y2: down(point.high) }));
      for (const end of [point.low, point.high]) {
        group.append(svg("line", { class: `error ${kind}`, x1: -3, x2: 3, y1: down(end), y2: down(end) }));
      }
      const shape = mark(number, point.size ?? 4.5);
      shape.setAttribute("transform", `translate(0,${down(point.y)})`);
      group.append(shape);
      body.append(tip(group, point.tip));
    }
  }
  return svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${y.label} over ${x.label}` },
    body,
  );
}

// Differences with their intervals, one line each, around 0. Rows: {label, value, low, high, note, tip, mark}.
export function forest(width, rows, label) {
  const row = 24;
  const left = Math.min(width * 0.42, Math.max(...rows.map((each) => each.label.length), 8) * 7.2 + 12);
  const right = width > 480 ? 150 : 12;
  const height = rows.length * row + 44;
  const far = Math.max(0.02, ...rows.flatMap((each) => [Math.abs(each.low), Math.abs(each.high)]));
  const across = linear([-far * 1.05, far * 1.05], [left, width - right]);
  const body = svg("g", {});
  for (const tick of ticks(across.domain, width < 480 ? 4 : 6)) {
    body.append(svg("line", { class: "grid", x1: across(tick), x2: across(tick), y1: 4, y2: rows.length * row + 4 }));
    body.append(text(across(tick), rows.length * row + 20, `${Math.round(1000 * tick) / 10}`, "middle"));
  }
  body.append(svg("line", { class: "zero", x1: across(0), x2: across(0), y1: 2, y2: rows.length * row + 6 }));
  rows.forEach((each, at) => {
    const y = at * row + row / 2 + 4;
    const group = svg("g", { class: "point" });
    const kind = `mark-${each.mark % COLOURS}`;
    group.append(svg("rect", { class: "hit", x: 0, y: y - row / 2, width, height: row }));
    group.append(text(left - 10, y + 4, shortened(each.label, left / 7.2), "end", "label"));
    group.append(svg("line", { class: `error ${kind}`, x1: across(each.low), x2: across(each.high), y1: y, y2: y }));
    const shape = mark(each.mark);
    shape.setAttribute("transform", `translate(${across(each.value)},${y})`);
    group.append(shape);
    if (width > 480) group.append(text(width - right + 12, y + 4, each.note, "start"));
    body.append(tip(group, each.tip));
  });
  body.append(text(across(0), height - 4, label, "middle", "axis-label"));
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, body);
}

// Bars of parts, one line each. Rows: {label, parts: [{value, kind, tip}], note}; `most` is the length of a full bar.
export function bars(width, rows, most) {
  const row = 22;
  const left = Math.min(width * 0.42, Math.max(...rows.map((each) => each.label.length), 8) * 7.2 + 12);
  const right = 84;
  const height = rows.length * row + 6;
  const across = linear([0, most || 1], [0, Math.max(20, width - left - right)]);
  const body = svg("g", {});
  rows.forEach((each, at) => {
    const y = at * row + 3;
    body.append(text(left - 10, y + 13, shortened(each.label, left / 7.2), "end", "label"));
    let from = 0;
    for (const part of each.parts) {
      const bar = svg("rect", {
        class: part.kind,
        x: left + across(from),
        y,
        width: across(part.value),
        height: row - 6,
      });
      body.append(tip(bar, part.tip));
      from += part.value;
    }
    body.append(text(left + across(from) + 6, y + 13, each.note, "start"));
  });
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" }, body);
}

function text(x, y, content, anchor, kind = "") {
  const made = svg("text", { x, y, "text-anchor": anchor, class: kind });
  made.textContent = content;
  return made;
}

function shortened(label, most) {
  return label.length > most ? `${label.slice(0, Math.max(3, Math.floor(most) - 1))}…` : label;
}

// ------------------------------------------------------------------------------------------------------------- scales

function linear(domain, range) {
  const [low, high] = domain;
  const scale = (value) => range[0] + ((value - low) / (high - low || 1)) * (range[1] - range[0]);
  scale.domain = domain;
  return scale;
}

function logarithmic(domain, range) {
  const inner = linear(domain.map(Math.log), range);
  const scale = (value) => inner(Math.log(value));
  scale.domain = domain;
  return scale;
}

// The range of some values with room at both ends.
function spread(values, log) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  if (log) {
    const room = Math.max(1.15, (high / low) ** 0.07);
    return [low / room, high * room];
  }
  const room = 0.05 * (high - low || 1);
  return [low - room, high + room];
}

// Round numbers between two, about `most` of them.
function ticks([low, high], most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}

function logTicks([low, high], most) {
  let best = [];
  for (const parts of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]) {
    const found = [];
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++) {
      for (const part of parts) {
        const tick = part * 10 ** decade;
        if (tick >= low && tick <= high) found.push(tick);
      }
    }
    if (found.length > best.length && (found.length <= most || best.length < 2)) best = found;
  }
  const every = Math.ceil(best.length / (most + 1));
  return best.filter((_, at) => at % every === 0);
}
