"""Why a node is in the tree and what became of it, what else there was, and why the answer is the answer."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.interface.text import brief, unicode_dash, visible
from agent.interface.tree_view import score_text, steps_table
from agent.search.control.steering import INFO
from agent.search.graph import SearchGraph

_SIBLINGS = 8
_RECORDS = 6


def explain_node(graph: SearchGraph, node: int, unicode: bool = True) -> Group:
    """Why a node is in the tree and what became of it: its path with scores, its figures, its siblings.

    Raises:
        ValueError: when there is no such node.
    """
    if node not in graph.graph:
        raise ValueError(f"no node {node}; the tree has nodes 0 to {len(graph) - 1}")
    row = graph[node]
    parts: list[RenderableType] = [steps_table(graph, node, unicode)]
    facts = [f"status {row.status}"]
    if row.answer is not None:
        facts.append(f"answer {visible(row.answer)}")
    if row.score is not None:
        facts.append(f"score {row.score:.4f}")
    facts.append(f"value {row.value:.4f}" if row.value is not None else "no value")
    if row.visits:
        facts.append(f"visits {row.visits}")
    facts += [f"sampled {row.count} times", f"{row.tokens} tokens", f"log-probability {row.logprob:.2f}"]
    notes = {"pruned": row.pruned, "rollout only": node and not row.count, "no score: NaN": row.unscored}
    facts += [note for note, holds in notes.items() if holds]
    parts.append(Text((" · " if unicode else " | ").join(facts)))
    parts += [Text(line, style="yellow") for line in _why_out(graph, node)]
    if row.status == "terminated":
        parts.append(Text(_vote_of(graph, node)))
    if node:
        siblings = _siblings(graph, node)
        siblings.remove(node)
        parts.append(Text(f"siblings: {len(siblings)}", style="dim"))
        for child in siblings[:_SIBLINGS]:
            other = graph[child]
            note = " pruned" if other.pruned else ""
            text = visible(other.text)
            parts.append(Text.assemble(f"  {child:>4}  ", score_text(other.score, unicode), f"  {text}{note}"))
        if len(siblings) > _SIBLINGS:
            parts.append(Text(f"  and {len(siblings) - _SIBLINGS} more", style="dim"))
    return Group(*parts)


def _siblings(graph: SearchGraph, node: int) -> list[int]:
    """A node and those that have its parent, the best first."""
    return sorted(graph.children(graph.parent(node) or 0), key=lambda child: (-(graph[child].score or 0.0), child))


def _why_out(graph: SearchGraph, node: int) -> list[str]:
    """Why nothing goes on from a node, and what people did to it."""
    row, steering, found = graph[node], graph.steering, []
    if node in steering.cut:
        found.append("cut by a person: nothing below is searched, and nothing there votes")
    elif node in steering.excluded:
        found.append("taken out, as it is below what a person cut, or outside of what is to be searched alone")
    elif row.pruned:
        same = [each for each in graph.graph if graph[each].depth == row.depth and graph[each].value is not None]
        kept = [graph[each].value or 0.0 for each in same if not graph[each].pruned]
        if kept and row.value is not None:
            rank = 1 + sum((graph[each].value or 0.0) > row.value for each in same)
            found.append(
                f"dropped by the search: its value {row.value:.2f} is rank {rank} of {len(same)} at depth {row.depth};"
                f" the least that was kept is {min(kept):.2f}"
            )
        else:
            found.append("dropped by the search")
    if node in steering.pinned:
        found.append("pinned by a person: it counts as promising, whatever its score")
    records = [each for each in graph.info.get(INFO, ()) if each.get("node") == node or node in each.get("made", ())]
    for record in records[-_RECORDS:]:
        how = "made" if node in record.get("made", ()) else "touched"
        found.append(f"{how} by {visible(str(record['who']))}: {record['what']}, after {record['samples']:.1f} samples")
    return found


def _vote_of(graph: SearchGraph, node: int) -> str:
    """What the candidate at a node counts for."""
    groups = graph.tally(graph.context.vote)
    total = sum(group.weight for group in groups)
    for place, group in enumerate(groups, 1):
        if graph.environment.same(group.answer, graph[node].answer or ""):
            share = f"{group.weight / total:.0%} of the vote" if total else f"{group.count} candidates"
            best = (
                ", and this is its best candidate" if group.best.node == node else f"; its best: node {group.best.node}"
            )
            return f"its answer is number {place} of {len(groups)}, with {share}{best}"
    return "it does not vote"


def alternatives_view(graph: SearchGraph, node: int, unicode: bool = True) -> RenderableType:
    """A node and the alternatives to it: how likely the policy found each, and what became of it.

    The prior is the share of the samples that left the parent, as MCTS sees it; of node 0 its children are shown.

    Raises:
        ValueError: when there is no such node.
    """
    if node not in graph.graph:
        raise ValueError(f"no node {node}; the tree has nodes 0 to {len(graph) - 1}")
    rows = graph.children(0) if node == 0 else _siblings(graph, node)
    if not rows:
        return Text("nothing was drawn yet", style="dim")
    drawn = sum(graph[each].count for each in rows)
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "right", "right", "right", "left", "left"):
        table.add_column(justify=justify, no_wrap=justify == "right")
    heads = ("node", "prior", "score", "value", "visits", "state", "step")
    table.add_row(*(Text(head, style="dim") for head in heads))
    dash = unicode_dash(unicode)
    for each in rows:
        row = graph[each]
        prior = row.prior if row.prior is not None else row.count / drawn if drawn else None
        state = "cut" if each in graph.steering.excluded else "dropped" if row.pruned else row.status
        table.add_row(
            Text(str(each), style="bold" if each == node else ""),
            dash if prior is None else f"{prior:.0%}",
            score_text(row.score, unicode),
            dash if row.value is None else f"{row.value:.2f}",
            str(row.visits) if row.visits else dash,
            Text(state, style="dim"),
            brief(visible(row.text), 200),
        )
    return table


def answer_view(graph: SearchGraph, unicode: bool = True) -> RenderableType:
    """Why the answer is the answer: its votes and scores, those of the runner-up, and what people did.

    Raises:
        ValueError: nothing has finished.
    """
    lead = graph.choice()
    if lead.node is None or lead.answer is None:
        raise ValueError("no candidate finished, so there is no answer; /tree shows what there is")
    vote, total = graph.context.vote, sum(group.weight for group in lead.groups)
    rule = {"majority": "the most candidates", "max": "the best candidate", "vote": "the largest sum of scores"}
    parts: list[RenderableType] = [
        Text.assemble(
            ("the answer is ", ""),
            (visible(lead.answer), "bold"),
            (f", of node {lead.node}: ", ""),
            (f"{rule.get(vote.rule, vote.rule)} decides (vote {vote.rule}, {vote.aggregate} of the step scores)", ""),
        )
    ]
    if graph.steering.accepted is not None:
        parts.append(Text("a person accepted it, whatever the vote", style="yellow"))
    for place, group in enumerate(lead.groups[:4]):
        share = f"{group.weight / total:.0%} of the vote" if total else "no weight"
        name = "leads" if place == 0 else "runner-up" if place == 1 else f"number {place + 1}"
        scores = ", ".join(f"{score:.2f}" for score in group.best.scores) or "none"
        parts.append(
            Text.assemble(
                (f"{name:<10}", "dim"),
                (brief(visible(group.answer), 60), "bold"),
                f"  {share}, {group.count} candidates; best node {group.best.node}, step scores {scores}",
            )
        )
    if len(lead.groups) > 4:
        parts.append(Text(f"and {len(lead.groups) - 4} more answers; /answers lists them", style="dim"))
    parts.append(steps_table(graph, lead.node, unicode))
    return Group(*parts)
