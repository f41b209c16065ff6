// The facts of a study, and what can be worked out of them.
import { line } from "./text.js";

export class StudyModel {
  constructor(data) {
    this.data = data;
    this.lines = data.lines;
    this.strategies = [...new Set(data.lines.map((each) => each.strategy))];
    this.setups = this.findSetups();
    this.pairs = new Map();
    for (let at = 0; at < data.pairs.length; at += 8) {
      this.pairs.set(data.pairs[at] * data.lines.length + data.pairs[at + 1], data.pairs.slice(at + 2, at + 8));
    }
    const varied = ["environment", "policy", "verifier"].filter(
      (axis) => new Set(data.lines.map((each) => each[axis])).size > 1,
    );
    this.names = data.lines.map((each) => {
      const where = varied.map((axis) => each[axis]).filter((text) => text !== "none");
      return line(`${each.strategy} @ ${each.budget}${where.length ? ` · ${where.join(", ")}` : ""}`);
    });
    this.shortNames = data.lines.map((each) => line(`${each.strategy} @ ${each.budget}`));
  }

  // Environment, policy and verifier, with the numbers of the lines; lines without a verifier belong to each.
  findSetups() {
    const groups = new Map();
    this.lines.forEach((each, at) => {
      const key = JSON.stringify([each.environment, each.policy]);
      if (!groups.has(key)) groups.set(key, new Map());
      const verifiers = groups.get(key);
      if (!verifiers.has(each.verifier)) verifiers.set(each.verifier, []);
      verifiers.get(each.verifier).push(at);
    });
    const setups = [];
    for (const [key, verifiers] of groups) {
      const [environment, policy] = JSON.parse(key);
      const free = verifiers.get("none") ?? [];
      const named = [...verifiers].filter(([name]) => name !== "none");
      for (const [verifier, lines] of named.length ? named : [["none", []]]) {
        const title = [environment, policy, verifier === "none" ? "" : verifier].filter(Boolean).join(" · ");
        setups.push({ title, environment, lines: [...free, ...lines].sort((a, b) => a - b) });
      }
    }
    return setups;
  }

  mark(at) {
    return this.strategies.indexOf(this.lines[at].strategy);
  }

  // The paired difference of two lines, second less first; null where they share no environment.
  difference(first, second) {
    const size = this.lines.length;
    const straight = this.pairs.get(first * size + second);
    if (straight) {
      const [value, low, high, n, better, worse] = straight;
      return { value, low, high, n, better, worse };
    }
    const back = this.pairs.get(second * size + first);
    if (!back) return null;
    const [value, low, high, n, better, worse] = back;
    return { value: -value, low: -high, high: -low, n, better: worse, worse: better };
  }

  // The lines of a setup at the largest budget of each strategy, as far as a size can be told.
  largest(lines) {
    const found = new Map();
    for (const at of lines) {
      const before = found.get(this.lines[at].strategy);
      if (before === undefined || this.cost(at) > this.cost(before)) found.set(this.lines[at].strategy, at);
    }
    return [...found.values()];
  }

  cost(at) {
    const { flops, generated, samples } = this.lines[at].cost;
    return flops || generated || samples || 0;
  }
}
