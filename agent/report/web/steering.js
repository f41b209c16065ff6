// What people did to a search, in words.
import { call, line, quantity } from "./text.js";

// The records of a search, each with its place, whether it was taken back, and the nodes that it names.
export function recordsOf(data) {
  const undone = new Set(data.steering.filter((record) => record.what === "undo").map((record) => record.new));
  return data.steering.map((record, place) => ({
    ...record,
    place,
    undone: undone.has(place),
    nodes_named: [record.node, ...(record.what === "only" ? record.new : []), ...(record.made ?? [])].filter(
      Number.isInteger,
    ),
  }));
}

export function tell(record, records) {
  const { what, node } = record;
  const made = record.made?.length ? `: made ${list(record.made)}` : "";
  const words = {
    budget: () => `budget: ${limits(record.old)} → ${limits(record.new)}`,
    strategy: () => `strategy: ${strategy(record.old)} → ${strategy(record.new)}`,
    expand: () => `${record.new} steps drawn after node ${node}${made}`,
    prune: () => `node ${node} cut`,
    pin: () => `node ${node} pinned`,
    only: () => (record.new.length ? `search below ${list(record.new)} only` : "search anywhere again"),
    write: () => `a step written after node ${node}: “${line(String(record.text ?? ""), 200)}”${made}`,
    answer: () => `answer of node ${node} accepted`,
    undo: () => `taken back: ${records[record.new] ? tell(records[record.new], records) : "an earlier change"}`,
    pause: () => "paused",
    resume: () => "resumed",
    stop: () => "stopped, with the best answer so far",
    cancel: () => "cancelled",
    "go on": () => "gone on with",
  };
  return `${words[what]?.() ?? line(what)}${record.error ? ` (failed: ${line(String(record.error), 200)})` : ""}`;
}

function list(nodes) {
  return `${nodes.length === 1 ? "node" : "nodes"} ${nodes.join(", ")}`;
}

function limits(budget) {
  const parts = Object.entries(budget ?? {}).map(
    ([name, value]) => `${typeof value === "number" ? quantity(value) : line(String(value), 40)} ${line(name, 40)}`,
  );
  return parts.join(", ") || "no limit";
}

function strategy(given) {
  return given && typeof given === "object" ? call(String(given.name ?? "?"), given) : line(String(given ?? "?"), 200);
}
