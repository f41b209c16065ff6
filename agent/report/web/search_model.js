// One search: flat arrays in order of creation, the same tree in preorder, and which rows of it are shown.
import { recordsOf } from "./steering.js";
import { line } from "./text.js";

const FAN = 12; // children of a node that are shown without folding
const KEPT = 8; // of those of a wider one
const WORDS = { finish: ["step", "answer", "length"], status: ["running", "terminated", "truncated"] };

export class SearchModel {
  constructor(data) {
    this.data = data;
    this.columns = data.columns;
    this.parent = Int32Array.from(data.columns.parent);
    this.size = this.parent.length;
    this.layOut();
    this.verdict = new Int8Array(this.size).fill(-1);
    const { node, correct } = data.candidates;
    node.forEach((each, at) => (this.verdict[each] = correct[at] === null ? -1 : Number(correct[at])));
    this.cut = new Set(data.cut);
    this.records = recordsOf(data);
    this.touched = new Map(); // the records that name a node
    for (const record of this.records) {
      for (const named of new Set(record.nodes_named))
        this.touched.set(named, [...(this.touched.get(named) ?? []), record]);
    }
    this.leader = data.accepted ?? (data.groups.length ? data.groups[0].node : this.mostPromising());
    this.chosen = new Uint8Array(this.size);
    for (const each of this.path(this.leader)) this.chosen[each] = 1;
    this.foldFans();
  }

  // A node's place in preorder, its level in the tree, and how many nodes its subtree has. Parents come before
  // children, so that each pass is a loop.
  layOut() {
    const { size, parent } = this;
    this.below = new Int32Array(size).fill(1);
    this.children = new Int32Array(size);
    for (let node = size - 1; node > 0; node--) {
      this.below[parent[node]] += this.below[node];
      this.children[parent[node]]++;
    }
    this.place = new Int32Array(size);
    this.level = new Int32Array(size);
    this.order = new Int32Array(size);
    this.spent = new Float64Array(size);
    const free = new Int32Array(size).fill(1);
    for (let node = 1; node < size; node++) {
      const above = parent[node];
      this.place[node] = free[above];
      free[above] += this.below[node];
      free[node] = this.place[node] + 1;
      this.level[node] = this.level[above] + 1;
      this.order[this.place[node]] = node;
      this.spent[node] = this.spent[node - 1] + (this.number("tokens", node) ?? 0);
    }
  }

  // Which children of wide nodes are folded away: all but the chosen, then the best that were not pruned.
  foldFans() {
    this.folded = new Uint8Array(this.size);
    this.fans = new Map();
    const groups = new Map();
    for (let node = 1; node < this.size; node++) {
      if (this.children[this.parent[node]] <= FAN) continue;
      if (!groups.has(this.parent[node])) groups.set(this.parent[node], []);
      groups.get(this.parent[node]).push(node);
    }
    for (const [above, nodes] of groups) {
      const ranked = nodes.map((node) => [this.promise(node), node]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
      const hidden = ranked
        .slice(KEPT)
        .map(([, node]) => node)
        .sort((a, b) => a - b);
      for (const node of hidden) this.folded[node] = 1;
      this.fans.set(above, { hidden, wideFrom: nodes[FAN] });
    }
  }

  promise(node) {
    const order = [this.chosen[node], !this.truth("pruned", node), (this.number("count", node) ?? 0) > 0];
    const rank = order.reduce((sum, holds) => 2 * sum + Number(holds), 0);
    return rank + (this.number("score", node) ?? 0) / 2 + Math.min(0.4, (this.number("visits", node) ?? 0) / 1e6);
  }

  mostPromising() {
    let best = 0;
    let most = -1;
    for (let node = 1; node < this.size; node++) {
      if (this.word("status", node) !== "running" || this.truth("pruned", node)) continue;
      const value = (this.number("score", node) ?? 0) + this.level[node] / 1e6;
      if (value > most) [best, most] = [node, value];
    }
    return best;
  }

  // ------------------------------------------------------------------------------------------ attributes of a node

  text(name, node) {
    return this.columns[name]?.[node] ?? "";
  }

  number(name, node) {
    const column = this.columns[name];
    return column ? column[node] : ["score", "value", "prior", "weight"].includes(name) ? null : 0;
  }

  truth(name, node) {
    return Boolean(this.columns[name]?.[node]);
  }

  word(name, node) {
    return WORDS[name][this.columns[name]?.[node] ?? 0];
  }

  answer(node) {
    return this.columns.answer?.[node] ?? null;
  }

  // The step of a node; of the root, the question.
  step(node) {
    return node === 0 ? this.data.problem.question : this.text("text", node);
  }

  // How a node stands out or was left: what a person did to it first, then what the strategy did.
  fate(node) {
    const [last] = (this.touched.get(node) ?? []).filter((record) => !record.undone).slice(-1);
    if (last) {
      const made = last.made?.includes(node);
      const word = made
        ? { write: "written", expand: "asked for" }[last.what]
        : { prune: "cut", pin: "pinned", answer: "accepted", only: "only here" }[last.what];
      if (word) return { text: `${word} by ${line(last.who, 20)}`, hand: true };
    }
    if (this.cut.has(node)) return { text: "below a cut", hand: true };
    if (this.truth("pruned", node)) return { text: "pruned", hand: false };
    if (node > 0 && !this.number("count", node)) return { text: "rollout", hand: false };
    return { text: "", hand: false };
  }

  // Nodes from the root to a node, those of earlier attempts left out: a revision begins at the end of another attempt.
  path(node) {
    const found = [node];
    while (node > 0) {
      node = this.word("status", this.parent[node]) === "terminated" ? 0 : this.parent[node];
      found.push(node);
    }
    return found.reverse();
  }

  // All nodes above a node in the tree.
  ancestors(node) {
    const found = [];
    while (node > 0) found.push((node = this.parent[node]));
    return found;
  }

  // Whether a node had a child at a time: the first one follows it in preorder.
  branches(node, time) {
    return this.children[node] > 0 && this.order[this.place[node] + 1] <= time;
  }

  // How many nodes lay below a node at a time.
  closed(node, time) {
    if (time >= this.size - 1) return this.below[node] - 1;
    return this.subtree(node).reduce((sum, each) => sum + Number(each <= time), -1);
  }

  // The nodes of a subtree, in preorder.
  subtree(node) {
    return this.order.subarray(this.place[node], this.place[node] + this.below[node]);
  }

  // --------------------------------------------------------------------------------------------------- what is shown

  // The rows of a view: numbers of nodes, and -1 - node for the line that stands for the folded children of a node.
  rows(view) {
    const { order, below, place, folded } = this;
    const rows = [];
    const waiting = []; // of wide nodes: where the subtree ends, and the node
    const settle = (at) => {
      while (waiting.length && waiting.at(-1)[0] <= at) {
        const above = waiting.pop()[1];
        if (this.fans.get(above).hidden[0] <= view.time) rows.push(-1 - above);
      }
    };
    let at = 0;
    while (at < this.size) {
      settle(at);
      const node = order[at];
      const away = view.keep ? !view.keep[node] : folded[node] && this.folds(this.parent[node], view);
      if (node > view.time || away) {
        at += below[node];
        continue;
      }
      rows.push(node);
      if (!view.keep && view.open[node] && this.folds(node, view)) {
        waiting.push([place[node] + below[node], node]);
      }
      at += view.keep || view.open[node] ? 1 : below[node];
    }
    settle(this.size);
    return rows;
  }

  // Whether a node has too many children at the time of a view, and nobody asked for all of them.
  folds(node, view) {
    return this.fans.has(node) && view.time >= this.fans.get(node).wideFrom && !view.wide.has(node);
  }

  // The folded children of a node that were there at a time.
  hidden(node, time) {
    return this.fans.get(node).hidden.filter((each) => each <= time);
  }

  // The nodes that meet all of the filters, up to a time.
  matching(filters, time) {
    const { path, finished, pruned, right, wrong, hand, below } = filters;
    const found = [];
    for (let node = 1; node <= Math.min(time, this.size - 1); node++) {
      const value = this.number("score", node);
      const fits =
        (!path || this.chosen[node]) &&
        (!finished || this.word("status", node) === "terminated") &&
        (!pruned || this.truth("pruned", node)) &&
        (!right || this.verdict[node] === 1) &&
        (!wrong || this.verdict[node] === 0) &&
        (!hand || this.touched.has(node) || this.cut.has(node)) &&
        (below === null || (value !== null && value < below));
      if (fits) found.push(node);
    }
    return found;
  }

  // Marks of some nodes and of all above them.
  withAncestors(nodes) {
    const keep = new Uint8Array(this.size);
    keep[0] = 1;
    for (let node of nodes) {
      while (node >= 0 && !keep[node]) {
        keep[node] = 1;
        node = this.parent[node];
      }
    }
    return keep;
  }

  // The nodes in preorder whose step, observation, thoughts or answer hold a text; or the node with a number (#12).
  find(text) {
    const number = /^#(\d+)$/.exec(text.trim());
    if (number) return Number(number[1]) < this.size ? [Number(number[1])] : [];
    const wanted = text.toLowerCase();
    if (!wanted) return [];
    const names = ["text", "observation", "thinking", "answer"].filter((name) => this.columns[name]);
    return [...this.order].filter((node) =>
      names.some((name) => (this.columns[name][node] ?? "").toLowerCase().includes(wanted)),
    );
  }

  // What the vote over the candidates that were there at a time chooses: its group, share and node.
  leaderAt(time) {
    const { node, same, count, score, weight } = this.data.candidates;
    const rule = this.data.vote.rule;
    const groups = new Map();
    node.forEach((each, at) => {
      if (each > time) return;
      const group = groups.get(same[at]) ?? { weight: 0, count: 0, score: -1, node: each };
      group.count += count[at];
      if (score[at] > group.score) [group.score, group.node] = [score[at], each];
      if (rule === "max") group.weight = Math.max(group.weight, score[at]);
      else group.weight += rule === "majority" ? count[at] : (weight[at] ?? score[at] * count[at]);
      groups.set(same[at], group);
    });
    let best = null;
    let total = 0;
    for (const group of groups.values()) {
      total += group.weight;
      const better = best === null || group.weight > best.weight + 1e-12;
      const level = best !== null && Math.abs(group.weight - best.weight) <= 1e-12 && group.count > best.count;
      if (better || level) best = group;
    }
    return best && { node: best.node, answer: this.answer(best.node), share: total ? best.weight / total : 0 };
  }
}
