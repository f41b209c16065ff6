// One search on the page: the slider over time, the map, find and filters, the list of nodes, and the node in detail.
import { el, labelled } from "./dom.js";
import { NodePanel } from "./node_panel.js";
import { tell } from "./steering.js";
import { call, line, percent, quantity, score, whole } from "./text.js";
import { TreeMap } from "./tree_map.js";
import { VirtualList } from "./virtual_list.js";

export const MOST_OPEN = 5000; // nodes of a search that is opened with all of them in the list
const ROW = 26; // pixels
const PLAY = 8; // seconds that a search takes to grow on the page
const FILTERS = [
  ["path", "chosen path"],
  ["finished", "finished"],
  ["pruned", "pruned"],
  ["right", "right"],
  ["wrong", "wrong"],
  ["hand", "by hand"],
];

export class SearchView {
  // `changed(node, time)` is called when a person selects a node or moves the slider; `link(node)` gives its address.
  constructor(model, { title, changed, link }) {
    this.model = model;
    this.changed = changed;
    this.collapsed = model.size > MOST_OPEN;
    this.view = { time: model.size - 1, open: new Uint8Array(model.size), wide: new Set(), keep: null, selected: 0 };
    this.filters = {
      path: false,
      finished: false,
      pruned: false,
      right: false,
      wrong: false,
      hand: false,
      below: null,
    };
    this.found = { nodes: [], at: -1 };
    this.openAll(!this.collapsed);
    this.map = new TreeMap(model, (node) => this.select(node));
    this.panel = new NodePanel(model, { select: (node) => this.select(node), link });
    this.box = el("article", { class: "search", "aria-label": title });
    this.listBox = el("div", { class: "tree", role: "tree", tabindex: 0, "aria-label": "Nodes of the search" });
    this.state = el("span", { class: "grow", role: "status" });
    const button = (text, title, run) =>
      el("button", { type: "button", class: "plain link", text, title, on: { click: run } });
    const status = el("p", { class: "state" }, this.state);
    status.append(button("open all", "open every node (*)", () => this.openAll(true, true)));
    status.append(button("chosen path only", "close all but the chosen path (p)", () => this.openAll(false, true)));
    this.box.append(
      el(
        "div",
        { class: "main" },
        this.header(title),
        this.timeline(),
        this.map.canvas,
        this.tools(),
        status,
        this.listBox,
      ),
      this.panel.box,
    );
    this.list = new VirtualList(
      this.listBox,
      ROW,
      () => this.emptyRow(),
      (row, at) => this.fillRow(row, at),
    );
    this.listBox.addEventListener("click", (event) => this.clicked(event));
    this.panel.show(0);
    this.update();
  }

  // ------------------------------------------------------------------------------------------------------- its parts

  header(title) {
    const { data } = this.model;
    const held = data.groups.find(
      (group) => group.node === data.accepted || group.answer === this.model.answer(data.accepted ?? -1),
    );
    const best =
      data.accepted === null
        ? data.groups[0]
        : (held ?? { answer: this.model.answer(data.accepted), correct: null, weight: 0 });
    const head = el("header", { class: "search-head" }, el("h2", { text: title }));
    const answer = el("p", { class: "answer" });
    if (!best) answer.append(el("span", { class: "dim", text: "no answer" }));
    else {
      const sign = best.correct === null ? "■" : best.correct ? "✓" : "✗";
      answer.append(
        el("span", { class: `sign ${best.correct === null ? "" : best.correct ? "good" : "bad"}`, text: sign }),
        el("strong", { text: line(best.answer, 120) }),
      );
      const total = data.groups.reduce((sum, group) => sum + group.weight, 0);
      if (total) answer.append(el("span", { class: "dim", text: ` ${percent(best.weight / total, 0)} of the vote` }));
      const taken = this.model.records.findLast((record) => record.what === "answer" && !record.undone);
      if (taken) answer.append(el("span", { class: "mark hand", text: `accepted by ${line(taken.who, 60)}` }));
    }
    const { spent } = data;
    const cost = [`${whole(this.model.size - 1)} nodes`];
    if (spent.samples !== undefined)
      cost.push(`${spent.samples} samples`, quantity(spent.flops ?? spent.policy_flops + spent.verifier_flops, "FLOP"));
    const name = data.plan ? call(data.plan.strategy, data.plan.knobs) : call(data.strategy.name ?? "", data.strategy);
    const parts = [name, data.policy && line(data.policy, 80), data.verifier && line(data.verifier, 80), ...cost];
    head.append(answer, el("p", { class: "dim", text: parts.filter(Boolean).join(" · ") }));
    return head;
  }

  timeline() {
    const last = this.model.size - 1;
    this.slider = el("input", {
      type: "range",
      min: 0,
      max: last,
      value: last,
      step: 1,
      "aria-label": "Time: nodes created",
    });
    this.slider.title = "which nodes were there; their scores, visits and fate are those at the end of the search";
    this.slider.addEventListener("input", () => this.setTime(Number(this.slider.value), true));
    this.clock = el("output", { class: "clock" });
    this.playButton = el("button", {
      type: "button",
      title: "let it grow (space)",
      text: "▶",
      on: { click: () => this.play() },
    });
    this.playButton.setAttribute("aria-label", "Play");
    return el(
      "div",
      { class: "timeline" },
      this.playButton,
      el("div", { class: "track" }, this.slider, this.acts(last)),
      this.clock,
    );
  }

  // Where in the growth of the tree a person did something.
  acts(last) {
    const { records } = this.model;
    if (!records.length) return null;
    return el(
      "div",
      { class: "acts" },
      ...records.map((record) => {
        const text = `${tell(record, records)} · ${line(record.who, 60)}`;
        const mark = el("button", {
          type: "button",
          title: text,
          "aria-label": text,
          var: { "--at": Math.min(1, record.nodes / Math.max(1, last)) },
        });
        mark.addEventListener("click", () => {
          this.select(record.nodes_named[0] ?? 0);
          this.setTime(Math.min(last, record.nodes), true);
        });
        return mark;
      }),
    );
  }

  tools() {
    this.finder = el("input", { type: "search", placeholder: "find a text, or #12", "aria-label": "Find in the tree" });
    this.finder.addEventListener("input", () => this.find(this.finder.value));
    this.finder.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.nextFound(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") this.listBox.focus();
    });
    this.foundText = el("span", { class: "count" });
    const button = (text, title, run) => el("button", { type: "button", text, title, on: { click: run } });
    const bar = el("div", { class: "tools" }, this.finder, this.foundText);
    bar.append(
      button("↑", "the match before (N)", () => this.nextFound(-1)),
      button("↓", "the next match (n)", () => this.nextFound(1)),
    );
    const known = this.model.data.problem.answer !== null;
    this.chips = el("div", { class: "chips", role: "group", "aria-label": "Filters" });
    for (const [name, text] of FILTERS) {
      if (!known && (name === "right" || name === "wrong")) continue;
      if (!this.model.records.length && name === "hand") continue;
      const chip = el("button", { type: "button", class: "chip", "aria-pressed": "false", text, "data-filter": name });
      chip.addEventListener("click", () => {
        this.filters[name] = !this.filters[name];
        chip.setAttribute("aria-pressed", String(this.filters[name]));
        this.update();
      });
      this.chips.append(chip);
    }
    this.below = el("input", { type: "number", min: 0, max: 1, step: 0.05, placeholder: "–", class: "below" });
    this.below.addEventListener("input", () => {
      this.filters.below = this.below.value === "" ? null : Number(this.below.value);
      this.update();
    });
    this.chips.append(labelled("score <", this.below));
    bar.append(this.chips);
    return bar;
  }

  // -------------------------------------------------------------------------------------------------- rows of nodes

  emptyRow() {
    const span = (name) => el("span", { class: name });
    const row = el("div", { class: "row", role: "treeitem" });
    const names = ["guides", "twist", "number", "sign", "text", "observed", "fate", "flags", "meter", "value"];
    row.parts = Object.fromEntries(names.map((name) => [name, span(name)]));
    row.append(...Object.values(row.parts));
    return row;
  }

  fillRow(row, at) {
    const { model, view } = this;
    const entry = this.rows[at];
    const node = entry < 0 ? -1 - entry : entry;
    const { parts } = row;
    row.style.setProperty("--level", Math.min(model.level[node] + (entry < 0 ? 1 : 0), 40));
    row.setAttribute("aria-level", model.level[node] + (entry < 0 ? 2 : 1));
    row.setAttribute("aria-selected", String(entry === view.selected));
    row.id = `${this.listBox.id}-${at}`;
    if (entry < 0) {
      const hidden = model.hidden(node, view.time);
      const pruned = hidden.filter((each) => model.truth("pruned", each)).length;
      const kinds = pruned === hidden.length ? "pruned" : pruned ? `more, ${whole(pruned)} of them pruned` : "more";
      row.className = "row fan";
      row.removeAttribute("aria-expanded");
      for (const part of Object.values(parts)) part.textContent = "";
      parts.twist.textContent = "▸";
      parts.text.textContent = `+ ${whole(hidden.length)} ${kinds}`;
      parts.meter.style.setProperty("--share", 0);
      return;
    }
    const branches = model.branches(node, view.time);
    const open = view.keep ? branches : Boolean(view.open[node]);
    const value = node === 0 ? null : model.number("score", node);
    const answer = model.answer(node);
    row.className = [
      "row",
      model.chosen[node] ? "chosen" : "",
      model.truth("pruned", node) || model.cut.has(node) || (node > 0 && !model.number("count", node)) ? "dropped" : "",
      view.keep && !this.matches.has(node) ? "around" : "",
      this.foundSet?.has(node) ? "found" : "",
    ].join(" ");
    if (branches) row.setAttribute("aria-expanded", String(open));
    else row.removeAttribute("aria-expanded");
    parts.twist.textContent = branches ? (open ? "▾" : "▸") : "";
    parts.number.textContent = node;
    const sign =
      answer !== null
        ? (["✗", "✓"][model.verdict[node]] ?? "■")
        : model.word("status", node) === "truncated"
          ? "⊘"
          : "";
    parts.sign.textContent = sign;
    parts.sign.className = `sign ${{ "✓": "good", "✗": "bad", "⊘": "bad" }[sign] ?? ""}`;
    parts.text.textContent = line(model.step(node)) || "(empty step)";
    const observed = line(model.text("observation", node), 200);
    parts.observed.textContent = observed && `→ ${observed}`;
    const fate = model.fate(node);
    parts.fate.textContent = fate.text;
    parts.fate.className = fate.hand ? "fate hand" : "fate";
    parts.flags.textContent = this.flags(node, branches && !open);
    parts.meter.style.setProperty("--share", value ?? 0);
    parts.meter.className =
      value === null ? "meter" : `meter ${value >= 0.7 ? "high" : value >= 0.3 ? "middle" : "low"}`;
    parts.value.textContent = node === 0 ? "" : score(value);
  }

  flags(node, closed) {
    const { model } = this;
    const flags = [];
    if (model.number("visits", node)) flags.push(`n ${model.number("visits", node)}`);
    const value = score(model.number("value", node));
    if (value !== "–" && value !== score(model.number("score", node))) flags.push(`v ${value}`);
    if (model.number("count", node) > 1) flags.push(`×${model.number("count", node)}`);
    if (node > 0) flags.push(`${quantity(model.number("tokens", node))} tok`);
    if (model.level[node] > 40) flags.push(`level ${model.level[node]}`);
    if (closed) flags.push(`+${whole(model.closed(node, this.view.time))}`);
    return flags.join("  ");
  }

  clicked(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const entry = this.rows[row.number];
    if (entry < 0) this.unfold(-1 - entry);
    else if (event.target.classList.contains("twist")) this.toggle(entry);
    else this.select(entry);
  }

  // ------------------------------------------------------------------------------------------------- what is in sight

  // Works out the rows again, after a change of the time, the filters or what is open.
  update() {
    const { model, view, filters } = this;
    const filtered = Object.values(filters).some((value) => value !== false && value !== null);
    const nodes = filtered ? model.matching(filters, view.time) : [];
    this.matches = new Set(nodes);
    view.keep = filtered ? model.withAncestors(nodes) : null;
    this.rows = model.rows(view);
    this.listBox.style.setProperty("--rows", this.rows.length);
    this.list.show(this.rows.length);
    this.map.draw(view);
    this.tell(filtered, nodes.length);
    this.listBox.setAttribute("aria-activedescendant", `${this.listBox.id}-${this.rows.indexOf(view.selected)}`);
  }

  tell(filtered, count) {
    const { model, view } = this;
    const lead = model.leaderAt(view.time);
    const parts = [
      `${whole(view.time)} of ${whole(model.size - 1)} nodes`,
      `${quantity(model.spent[view.time])} tokens`,
    ];
    if (lead) parts.push(`leading: ${line(lead.answer, 40)}${lead.share ? ` (${percent(lead.share, 0)})` : ""}`);
    this.clock.textContent = parts.join(" · ");
    const told = [];
    if (filtered)
      told.push(
        `${whole(count)} ${count === 1 ? "node matches" : "nodes match"}; the nodes above them are shown in grey`,
      );
    else {
      if (this.collapsed) {
        told.push(
          `${whole(model.size - 1)} nodes: only the chosen path is open; the numbers behind + are nodes that are closed`,
        );
      }
      if (model.fans.size) told.push("wide fans are folded: click a “+” line to see all of it");
    }
    this.state.textContent = told.join(" · ");
  }

  setTime(time, tell = false) {
    this.view.time = Math.max(0, Math.min(this.model.size - 1, time));
    this.slider.value = this.view.time;
    this.update();
    if (tell) this.changed({ time: this.view.time });
  }

  // The time at which so many tokens were generated.
  timeOf(tokens) {
    let time = this.model.size - 1;
    while (time > 0 && this.model.spent[time] > tokens) time--;
    return time;
  }

  play() {
    if (this.playing) {
      cancelAnimationFrame(this.playing);
      this.playing = 0;
      this.playButton.textContent = "▶";
      return;
    }
    const last = this.model.size - 1;
    const from = this.view.time >= last ? 0 : this.view.time;
    const began = performance.now();
    this.playButton.textContent = "⏸";
    const grow = (now) => {
      const time = from + Math.floor(((now - began) / 1000 / PLAY) * last);
      this.setTime(time, true);
      if (time >= last || !this.box.isConnected) {
        this.playing = 0;
        this.playButton.textContent = "▶";
      } else this.playing = requestAnimationFrame(grow);
    };
    this.playing = requestAnimationFrame(grow);
  }

  openAll(all, redraw = false) {
    this.view.open.fill(all ? 1 : 0);
    this.view.wide.clear();
    for (let node = 0; node < this.model.size; node++) if (this.model.chosen[node]) this.view.open[node] = 1;
    this.collapsed = !all;
    if (redraw) this.update();
  }

  toggle(node, open = !this.view.open[node]) {
    this.view.open[node] = open ? 1 : 0;
    this.update();
  }

  unfold(node) {
    this.view.wide.add(node);
    this.update();
  }

  // Selects a node, and opens what is above it; a time before its creation goes on to it.
  select(node, tell = true) {
    const { model, view } = this;
    view.selected = node;
    for (const above of model.ancestors(node)) view.open[above] = 1;
    for (let at = node; at > 0; at = model.parent[at]) if (model.folded[at]) view.wide.add(model.parent[at]);
    if (view.time < node) this.setTime(node);
    else this.update();
    const at = this.rows.indexOf(node);
    if (at >= 0) this.list.reveal(at);
    this.panel.show(node);
    if (tell) this.changed({ node });
  }

  find(text) {
    const nodes = this.model.find(text);
    this.found = { nodes, at: -1 };
    this.foundSet = new Set(nodes);
    this.foundText.textContent = text.trim() ? `${whole(nodes.length)} found` : "";
    this.list.draw();
  }

  nextFound(by) {
    const { nodes, at } = this.found;
    if (!nodes.length) return;
    const next = at < 0 && by < 0 ? nodes.length - 1 : (at + by + nodes.length) % nodes.length;
    this.found.at = next;
    this.foundText.textContent = `${whole(next + 1)} of ${whole(nodes.length)}`;
    this.select(nodes[next]);
  }

  // ----------------------------------------------------------------------------------------------- keyboard and paper

  // What a key does; returns whether it did anything.
  key(event) {
    const at = this.rows.indexOf(this.view.selected);
    const move = (to) => {
      const entry = this.rows[Math.max(0, Math.min(this.rows.length - 1, to))];
      if (entry < 0) this.unfold(-1 - entry);
      else this.select(entry);
    };
    const node = this.view.selected;
    const keys = {
      ArrowDown: () => move(at + 1),
      ArrowUp: () => move(at - 1),
      PageDown: () => move(at + this.list.page()),
      PageUp: () => move(at - this.list.page()),
      Home: () => move(0),
      End: () => move(this.rows.length - 1),
      ArrowRight: () => {
        if (!this.model.branches(node, this.view.time)) return;
        if (this.view.open[node]) move(at + 1);
        else this.toggle(node, true);
      },
      ArrowLeft: () =>
        this.view.open[node] && this.model.children[node]
          ? this.toggle(node, false)
          : this.select(Math.max(0, this.model.parent[node])),
      Enter: () => this.toggle(node),
      "*": () => this.openAll(true, true),
      p: () => {
        this.openAll(false, true);
        this.select(this.model.leader);
      },
      "/": () => this.finder.focus(),
      n: () => this.nextFound(1),
      N: () => this.nextFound(-1),
      "[": () => this.setTime(this.view.time - 1, true),
      "]": () => this.setTime(this.view.time + 1, true),
      " ": () => this.play(),
      j: () => this.panel.copyJson(),
      m: () => this.panel.copyMarkdown(),
      l: () => this.panel.copyLink(),
    };
    const run = keys[event.key];
    if (run) run();
    return Boolean(run);
  }

  print() {
    this.list.print();
  }

  printed() {
    this.list.printed();
  }
}

// A search that cannot be shown: what takes its place.
export function absent(text) {
  return el("article", { class: "search" }, el("p", { class: "note", text }));
}
