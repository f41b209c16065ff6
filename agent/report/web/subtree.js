// A subtree as JSON and as Markdown, for a clipboard.
import { score } from "./text.js";

const NUMBERS = ["score", "value", "visits", "total", "prior", "count", "tokens", "logprob", "reward"];

// Facts of a node that say something, under the names of the saved search.
function facts(model, node) {
  const found = { node, parent: node === 0 ? null : model.parent[node], text: model.text("text", node) };
  for (const name of ["observation", "thinking"]) if (model.text(name, node)) found[name] = model.text(name, node);
  for (const name of NUMBERS) {
    const value = model.number(name, node);
    if (value !== null && value !== 0) found[name] = value;
  }
  found.status = model.word("status", node);
  if (model.answer(node) !== null) found.answer = model.answer(node);
  if (model.verdict[node] >= 0) found.correct = model.verdict[node] === 1;
  if (model.fate(node).hand) found.by_hand = model.fate(node).text;
  for (const name of ["pruned", "unscored"]) if (model.truth(name, node)) found[name] = true;
  return found;
}

export function subtreeJson(model, node) {
  const { id, question, answer } = model.data.problem;
  const before = model.path(node).slice(1, -1);
  return JSON.stringify(
    {
      problem: { id, question, answer },
      before: before.map((each) => ({ node: each, text: model.text("text", each) })),
      nodes: [...model.subtree(node)].map((each) => facts(model, each)),
    },
    null,
    2,
  );
}

export function subtreeMarkdown(model, node) {
  const { question, answer } = model.data.problem;
  const lines = [`**Problem**: ${code(question)}`];
  if (answer !== null) lines.push(`**Gold answer**: ${code(answer)}`);
  lines.push("");
  const path = model.path(node).slice(1, -1);
  if (path.length) {
    lines.push("Steps before:", "", ...path.map((each, at) => `${at + 1}. ${item(model, each, 3)}`), "");
  }
  const base = model.level[node];
  for (const each of model.subtree(node)) {
    const indent = 2 * (model.level[each] - base);
    lines.push(`${" ".repeat(indent)}- ${each === 0 ? "start" : item(model, each, indent + 2)}`);
  }
  return `${lines.join("\n")}\n`;
}

function item(model, node, indent) {
  const notes = [];
  if (model.number("score", node) !== null) notes.push(`score ${score(model.number("score", node))}`);
  if (model.number("visits", node)) notes.push(`visits ${model.number("visits", node)}`);
  if (model.number("count", node) > 1) notes.push(`drawn ${model.number("count", node)} times`);
  if (model.fate(node).text) notes.push(model.fate(node).text);
  if (model.word("status", node) === "truncated") notes.push("no answer");
  if (model.answer(node) !== null) {
    const verdict = ["wrong", "right"][model.verdict[node]];
    notes.push(`answer ${code(model.answer(node))}${verdict ? `, ${verdict}` : ""}`);
  }
  const observed = model.text("observation", node);
  const text = code(model.text("text", node), indent) + (observed ? ` → ${code(observed, indent)}` : "");
  return `#${node} ${text}${notes.length ? ` (${notes.join("; ")})` : ""}`;
}

// A text as code, fenced by more backticks than it holds; one of several lines as a block.
function code(text, indent = 0) {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map((found) => found[0].length));
  if (!text.includes("\n")) {
    const fence = "`".repeat(longest + 1);
    const space = /^`|`$|^\s|\s$/.test(text) || text === "" ? " " : "";
    return `${fence}${space}${text}${space}${fence}`;
  }
  const fence = "`".repeat(Math.max(3, longest + 1));
  const margin = " ".repeat(indent);
  return `\n${[fence, ...text.split("\n"), fence].map((each) => margin + each).join("\n")}\n${margin}`;
}
