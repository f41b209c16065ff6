// What is known of one node, and of the search as a whole, which is what the root shows.
import { clear, copy, el } from "./dom.js";
import { tell } from "./steering.js";
import { subtreeJson, subtreeMarkdown } from "./subtree.js";
import { call, duration, line, percent, quantity, score, visible, whole } from "./text.js";

export class NodePanel {
  constructor(model, { select, link }) {
    this.model = model;
    this.select = select;
    this.link = link;
    this.box = el("section", { class: "panel", "aria-label": "Node" });
  }

  show(node) {
    const { model } = this;
    this.node = node;
    clear(this.box).append(this.head(node));
    if (node === 0) this.box.append(...this.summary());
    else
      this.box.append(
        ...this.step(node),
        ...this.done(this.model.touched.get(node) ?? []),
        this.facts(node),
        this.path(node),
      );
    this.box.scrollTop = 0;
    this.box.setAttribute("aria-label", node === 0 ? "The search" : `Node ${node} of ${model.size - 1}`);
  }

  head(node) {
    const button = (text, title, run) => el("button", { type: "button", text, title, on: { click: run } });
    return el(
      "div",
      { class: "panel-head" },
      el("h2", { text: node === 0 ? "The search" : `Node ${node}` }),
      el("span", { class: "grow" }),
      button("JSON", "copy this subtree as JSON (j)", () => this.copyJson()),
      button("Markdown", "copy this subtree as Markdown (m)", () => this.copyMarkdown()),
      button("Link", "copy a link to this node (l)", () => this.copyLink()),
    );
  }

  copyJson() {
    return copy(subtreeJson(this.model, this.node), "JSON");
  }

  copyMarkdown() {
    return copy(subtreeMarkdown(this.model, this.node), "Markdown");
  }

  copyLink() {
    return copy(this.link(this.node), "link");
  }

  // ----------------------------------------------------------------------------------------------------- one node

  step(node) {
    const { model } = this;
    const marks = el("p", { class: "marks" });
    const mark = (text, kind = "") => marks.append(el("span", { class: `mark ${kind}`, text }));
    if (model.chosen[node]) mark("● chosen path", "good");
    if (model.answer(node) !== null) {
      mark(`answer ${line(model.answer(node), 80)}`, ["bad", "good"][model.verdict[node]] ?? "");
      mark(["✗ wrong", "✓ right"][model.verdict[node]] ?? this.unjudged(node));
    }
    if (model.word("status", node) === "truncated") mark("⊘ ended without an answer", "bad");
    if (model.truth("pruned", node)) mark("pruned: dropped by the strategy, does not vote", "bad");
    if (!model.number("count", node)) mark("rollout only: looked ahead, does not vote");
    if (model.cut.has(node)) mark("cut by a person: not searched below, does not vote", "hand");
    if (model.truth("unscored", node)) mark("the verifier failed here: counts as 0", "bad");
    const parts = [el("pre", { class: "step", text: visible(model.text("text", node)) || "(empty step)" })];
    if (model.text("observation", node)) {
      parts.push(el("h3", { text: "Observation" }));
      parts.push(el("pre", { class: "step observed", text: visible(model.text("observation", node)) }));
    }
    if (model.text("thinking", node)) {
      const thoughts = el("pre", { class: "step", text: visible(model.text("thinking", node)) });
      parts.push(el("details", {}, el("summary", { text: "Thinking" }), thoughts));
    }
    return [...parts, marks];
  }

  // What people did, oldest first.
  done(records) {
    if (!records.length) return [];
    const all = this.model.records;
    const rows = records.map((record) => {
      const when = `${line(record.who, 60)}, ${line(record.at.slice(0, 19).replace("T", " "), 40)}, after ${duration(record.seconds)} and ${whole(record.nodes)} nodes`;
      const jump = el("button", { type: "button", class: "plain wrapped", text: tell(record, all) });
      jump.addEventListener("click", () => this.select(record.nodes_named[0] ?? 0));
      const box = el(
        "li",
        { class: record.undone ? "undone" : "" },
        jump,
        el("span", { class: "dim small", text: ` ${when}` }),
      );
      if (record.undone) box.append(el("span", { class: "dim", text: " (taken back later)" }));
      return box;
    });
    return [el("h3", { text: "By hand" }), el("ol", { class: "reasons" }, ...rows)];
  }

  unjudged(node) {
    if (this.model.data.problem.answer === null) return "no gold answer is known";
    return this.model.data.candidates.node.includes(node) ? "not judged" : "does not vote, not judged";
  }

  facts(node) {
    const { model } = this;
    const of = (name) => model.number(name, node);
    const rows = [["score", of("score") === null ? "none" : of("score").toFixed(4), "of the verifier, for this step"]];
    const siblings = model.children[model.parent[node]];
    if (siblings > 1) rows.push(["rank", this.rank(node, siblings), "by score, among the children of its parent"]);
    if (of("value") !== null) rows.push(["value", of("value").toFixed(4), "what the strategy thinks of the node"]);
    if (of("weight") !== null) rows.push(["weight", of("weight").toFixed(4), "what it counts for in the vote"]);
    if (of("visits")) {
      rows.push(["visits", whole(of("visits")), "of MCTS, at the end of the search"]);
      rows.push(["mean value", (of("total") / of("visits")).toFixed(4), "backed up, over the visits"]);
    }
    if (of("prior") !== null) rows.push(["prior", percent(of("prior")), "share of the samples that left its parent"]);
    if (of("reward")) rows.push(["reward", String(of("reward")), "of the environment"]);
    rows.push(["drawn", `${whole(of("count"))}×`, "identical samples, one node"]);
    rows.push(["tokens", this.cost(of("tokens")), "generated for this node, all samples"]);
    if (of("count") > 1) rows.push(["one sample", `${whole(of("length"))} tokens`, ""]);
    rows.push(["log-prob.", of("logprob").toFixed(2), "of the step at temperature 1, in nats"]);
    rows.push(["created", `${whole(node)} of ${whole(model.size - 1)}`, "in order of creation"]);
    if (model.below[node] > 1) {
      const tokens = model.subtree(node).reduce((sum, each) => sum + model.number("tokens", each), 0);
      rows.push(["subtree", `${whole(model.below[node])} nodes, ${this.cost(tokens)}`, "this node included"]);
    }
    const text = model.word("finish", node);
    rows.push(["ended by", { step: "a delimiter", answer: "the end of the solution", length: "a limit" }[text], ""]);
    return factTable(rows);
  }

  rank(node, siblings) {
    const own = this.model.number("score", node) ?? -1;
    let better = 0;
    for (let each = 1; each < this.model.size; each++) {
      const sibling = this.model.parent[each] === this.model.parent[node];
      if (sibling && (this.model.number("score", each) ?? -1) > own) better++;
    }
    return `${better + 1} of ${whole(siblings)}`;
  }

  // Tokens, and the FLOPs that the policy took to generate them: 2 x parameters x tokens.
  cost(tokens) {
    const { parameters } = this.model.data;
    return `${quantity(tokens)} tokens${parameters ? `, ${quantity(2 * parameters * tokens, "FLOP")}` : ""}`;
  }

  path(node) {
    const steps = this.model.path(node).slice(1);
    const list = el("ol", { class: "path" });
    for (const each of steps) {
      const text = line(this.model.text("text", each), 200) || "(empty step)";
      const jump = el("button", { type: "button", class: "plain", text, on: { click: () => this.select(each) } });
      const row = el("li", { class: each === node ? "here" : "" }, jump);
      row.append(el("span", { class: "num", text: score(this.model.number("score", each)) }));
      list.append(row);
    }
    return el("div", {}, el("h3", { text: "Path" }), list);
  }

  // ---------------------------------------------------------------------------------------------- the whole search

  summary() {
    const { data } = this.model;
    const { problem, spent, groups } = data;
    const parts = data.conversation.map(({ role, text }) =>
      el("div", { class: "turn" }, el("h3", { text: role }), el("pre", { class: "step", text: visible(text) })),
    );
    parts.push(el("pre", { class: "step", text: visible(problem.question) }));
    const rows = [["gold answer", problem.answer === null ? "not known" : line(problem.answer, 300), ""]];
    for (const [key, value] of Object.entries(problem.meta)) {
      rows.push([line(key, 30), line(typeof value === "string" ? value : JSON.stringify(value), 300), ""]);
    }
    parts.push(factTable(rows));
    if (data.failure) parts.push(el("p", { class: "note bad", text: line(data.failure) }));
    if (data.error) parts.push(el("p", { class: "note bad", text: `the search failed: ${line(data.error)}` }));
    parts.push(el("h3", { text: "Votes" }), groups.length ? this.votes() : el("p", { text: "No candidate finished." }));
    parts.push(...this.done(this.model.records));
    const decided = data.plan
      ? [call(data.plan.strategy, data.plan.knobs), ...data.plan.reasons.map((each) => line(each))]
      : [`${call(data.strategy.name ?? "?", data.strategy)}, as asked`];
    parts.push(
      el("h3", { text: "Plan" }),
      el("ul", { class: "reasons" }, ...decided.map((text) => el("li", { text }))),
    );
    parts.push(el("h3", { text: "Cost and parts" }), factTable(this.costs(spent)));
    return parts;
  }

  votes() {
    const { groups, vote } = this.model.data;
    const most = Math.max(...groups.map((group) => group.weight), 1e-12);
    const rows = groups.map((group) => {
      const verdict = { true: "✓", false: "✗" }[String(Boolean(group.correct))];
      const jump = el("button", { type: "button", class: "plain", text: line(group.answer, 120) });
      jump.addEventListener("click", () => this.select(group.node));
      return el(
        "tr",
        {},
        el("td", {
          class: group.correct === null ? "" : group.correct ? "good" : "bad",
          text: group.correct === null ? "■" : verdict,
        }),
        el("td", { class: "wrap" }, jump),
        el("td", { class: "num", text: Number(group.weight.toPrecision(4)) }),
        el("td", {}, el("span", { class: "bar", var: { "--share": group.weight / most } })),
        el("td", { class: "num", text: `${group.count}×` }),
        el("td", { class: "num", text: score(group.score) }),
      );
    });
    const head = el("tr", {}, ...["", "answer", "weight", "", "drawn", "score"].map((text) => el("th", { text })));
    const rule = vote.rule === "majority" ? "majority" : `${vote.rule} of ${vote.aggregate} scores`;
    return el("div", {}, el("p", { class: "dim", text: `by ${rule}` }), el("table", { class: "votes" }, head, ...rows));
  }

  costs(spent) {
    const { data, model } = { data: this.model.data, model: this.model };
    const rows = [
      ["environment", line(data.environment), ""],
      ["policy", line(data.policy || "–"), ""],
    ];
    if (data.parameters) rows[1][2] = `${quantity(data.parameters)} parameters`;
    rows.push(["verifier", line(data.verifier ?? "none"), ""]);
    const limits = Object.entries(data.budget).map(([name, value]) => `${quantity(value)} ${name}`);
    rows.push(["budget", limits.join(", ") || "none", ""], ["ended", line(data.stopped || "not yet"), ""]);
    rows.push(["seed", String(data.seed), ""], ["nodes", whole(model.size - 1), ""]);
    if (spent.samples !== undefined) {
      rows.push(["samples", String(spent.samples), "sample-equivalents"]);
      rows.push([
        "policy",
        `${quantity(spent.generated)} tokens generated, ${quantity(spent.prefilled)} read`,
        quantity(spent.policy_flops, "FLOP"),
      ]);
      rows.push(["verifier", `${quantity(spent.verifier_tokens)} tokens`, quantity(spent.verifier_flops, "FLOP")]);
      rows.push(["time", duration(spent.seconds), ""]);
    }
    return rows;
  }
}

function factTable(rows) {
  return el(
    "table",
    { class: "facts" },
    ...rows.map(([name, value, note]) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", text: name }),
        el("td", {}, el("span", { text: value }), note ? el("span", { class: "dim", text: ` ${note}` }) : null),
      ),
    ),
  );
}
