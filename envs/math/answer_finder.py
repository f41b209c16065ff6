r"""Finds the answer that a solution states: in a box, behind a mark, or in words.

In this order: the last ``\boxed{...}`` (or several with nothing but "or", "and" or a comma between them), the last
``<answer>...</answer>``, the last ``#### ...``, and in a solution that is over "the answer is ..." or "Final Answer:
..." in its last lines. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from itertools import pairwise

from envs.core import Finish
from envs.math.answer_algebra import equal, symbols
from envs.math.answer_reader import MAX_ANSWER, read
from envs.math.answer_values import Choice, Collection, Quantity, Text, Value
from envs.messages import with_line_feeds

_BRACES = re.compile(r"\\{1,2}(?:boxed|fbox|framebox)\s*(?:(\{)|(?=[^\s{]))|\\.|([{}])", re.DOTALL)
_BARE = re.compile(
    r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+|\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)"
    r"|\\[a-zA-Z]+(?:\[[^\[\]]*\])?(?:\{[^{}]*\}){0,2}|[a-zA-Z])"
)
_BETWEEN = re.compile(
    r"(?:[\s$,;.&~{}]|\\(?:quad|qquad|text|textrm|mathrm|mbox)(?![a-zA-Z])|\\[,;:! ()]"
    r"|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z]))*"
    r"(?:[a-zA-Z](?:_\{?\w\}?)?\s*=\s*)?[\s$]*"
)
_TAGGED = re.compile(
    r"[<\[](?:final_?)?ans(?:wer)?[>\]]([^<\[]*(?:[<\[](?!/?(?:final_?)?ans(?:wer)?[>\]])[^<\[]*)*)"
    r"[<\[]/(?:final_?)?ans(?:wer)?[>\]]",
    re.IGNORECASE,
)
_FIELD = re.compile(
    r'"(?:final[_ ]?)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d[\d.]*)', re.IGNORECASE
)  # of an object of JSON
_MARK = re.compile(r"(?<![#\w])####+[ \t]*(?!#)")
_ENDS = re.compile(r"</s>|<\|[\w|]{1,40}\|>|<eos>|<end_of_turn>|\[/?INST\]|\[(?:END|EOS|DONE)\]")
_ANOTHER = re.compile(
    r"^[ \t]*\**(?:question|problem|q|exercise|human|user)\s*\d{0,4}\**\s*[:.]", re.IGNORECASE | re.MULTILINE
)
_IS = (
    r"(?:,\s[a-z]{4,12},)?\s?(?:\b(?:is|are)\b(?!\sin\b)|\b(?:would|must|should|will)(?: [a-z]{4,9})? be\b|\bequals\b"
    r"|\bcomes to\b|\b(?:comes|turns) out (?:to be|as|to)\b|:|=>?|→|⇒|：|是|为),?\s?[*_]{0,3}:?"  # noqa: RUF001
)
_SAID = re.compile(
    r"(?<![a-zA-Z])(?:(?:(?:the|our|my|your|a|final|correct|right|best|numerical)\s){0,3}answers?(?:\s(?:choice|option))?"
    r"|(?:final|correct|right|best)\s(?:option|choice|result|solution|value)|ans|(?:最终)?答案)(?![a-zA-Z])"
    r"(?:\s(?:to|for|of)\s[^.:\n]{1,80}?)?(?:[*_]{1,3}|</b>)?\.?" + _IS,
    re.IGNORECASE,
)
_SHORT = re.compile(r"[\W_]*(?:ans[.)]|a:)[*_\s]*(?=[^\s*_])", re.IGNORECASE)
_RESULT = re.compile(r"(?<![a-zA-Z])(?:the|our|my)\s(?:result|solution)s?(?:\sset)?(?![a-zA-Z])" + _IS, re.IGNORECASE)
_IS_ANSWER = re.compile(
    r"^(?:.*(?:[.:,]|\b(?:so|thus|hence|therefore|get|gets|gives|have|obtain|find|that))\s)?"
    r"((?:[^.:,]|[.:,](?=\d)){1,100}?)\s"
    r"(?:is|as)\s(?:(?:(?:the|our|my)\s)(?:(?:final|correct|right)\s)?(?:answer|choice|option)|correct)\W*$",
    re.IGNORECASE,
)
_HEADING = re.compile(r"[#*_\s]*(?:the\s)?(?:final\s)?answer[#*_:\s.]*", re.IGNORECASE)
_FAREWELL = re.compile(
    r"\b(?:hopes?|helps?|let me know|feel free|thanks?|thank you|good luck|happy|questions?|great|done|qed|cheers"
    r"|welcome|enjoy|confidence|all the best)\b|^\W*$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?<![.\s])(?!(?:(?<=\W[A-J])|(?<=^[A-J])|(?<=\b(?:ft|hr|lb|oz)))\.\s[-\d$\\(]|(?<=\b(?:Dr|Mr|Ms|St))\.\s[A-Z])"
    r"\.(?=\s|$|\*|\")|[!?](?=\s|$)|。"  # no end: (C. 7), (3 ft. 4 in.), (Dr. Li)
)
_EXPLAINED = re.compile(
    r"^[^\w\n]*(?:explanation|reason|reasoning|justification|verification|check|proof|note)(?:\s*[*_]*\s*:|\sthat\s)",
    re.IGNORECASE | re.MULTILINE,
)
_DISPLAYED = re.compile(r"\$\$([^$]*)\$\$|\\\[((?:[^\\]|\\(?![\[\]]))*)\\\]")
_NOWHERE = re.compile(
    r"(?:not|unclear|unknown|obtained|found|given|calculated|computed|determined|derived|shown|written|stated|below"
    r"|above|as follows)\b[^\d\\$]*",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r",?\s(?:because|since|given that|as (?:the|it|we|this|that|required|shown|desired))\b"
    r"|,\s(?:which|not|so|where|while|but|that|who|who's|rounded|meaning|making|after|thus|hence|therefore|as|namely|i\.e"
    r"|and (?:the|we|this|so|it|not))\b|\s\((?:since|because|as|not|which|that is|i\.e|about|approximately|or"
    r"|rounded)\b"
    r"|,?\sor (?:about|approximately|roughly|around)\b|\si\.e\b"
    r"|\s(?:which|rather than|instead of|when rounded|rounded to|and not)\b"
    r"|;\s(?=[a-z]{2,} [a-z]{2,})|\s[-–—]{1,2}\s(?=[a-z]{2,} [a-z]{2,})"
)
_LEADS = re.compile(
    r"(?:[:=\s*_]|\b(?:(?:therefore|thus|so|hence|simply|just|exactly|approximately|about|around|roughly|indeed|clearly|then|now"
    r"|of course|(?:the|our|my)\s(?:final\s|correct\s)?answer\sis|(?:the\s)?(?:final\s|correct\s)?answer|option|choice"
    r"|given by|equal to)\b[,:]?(?!\s*$)))+",
    re.IGNORECASE,
)
_COMPUTED = re.compile(r"[\d\s+\-*/().,$×÷−·^]{1,200}=\s*(?=\S)")
_HEADS_A_PART = re.compile(
    r"\d+[.)]\s+[A-Z]|(?:step|part|case|method|solution|explanation|note|problem|question)\b", re.IGNORECASE
)
MAX_MARKS = 50  # that are looked at, from the last one
_WORKED = re.compile(r"<<[^<>]*>>")  # the calculator's notes of GSM8K
_STYLE = re.compile(r"</?(?:b|strong|em|i|u|p|span|div|br)\s*/?>", re.IGNORECASE)
_INK = re.compile(r"\S")
_BLANKS = re.compile(r"[ \t\f\v]+")


def find_answer(solution: str, finish: Finish = "answer") -> str | None:
    r"""The final answer that a solution states, or None.

    Nothing before a ``</think>`` counts, and nothing behind the next "Question:".

    Args:
        solution: the text of its steps.
        finish: how its last step ended. Unless the solution is over, ``####`` must have a number after it (it is also
            how headings are written); where the text was cut, only what is closed is sure to be whole.
    """
    thought, _, solution = solution.rpartition("</think>")
    if not thought and "<think>" in solution:
        return None
    solution = _BLANKS.sub(" ", _ENDS.sub("", with_line_feeds(solution)))
    starts = [0, *(match.start() for match in _ANOTHER.finditer(solution)), len(solution)]
    for start, end in pairwise(starts):  # a question that is repeated before the solution states nothing
        if found := _stated(solution[start:end], finish if end == len(solution) else "answer"):
            return found
    return None


def _stated(solution: str, finish: Finish) -> str | None:
    """The answer of a solution to one question."""
    if boxed := _boxed(solution):
        return boxed
    if tagged := [text.strip() for text in _TAGGED.findall(solution) if text.strip()]:
        return tagged[-1] if len(tagged[-1]) <= MAX_ANSWER else None
    if fields := _FIELD.findall(solution):
        return _of_field(fields[-1])
    if finish == "length":
        return None
    if marked := _marked(solution, finish):
        return marked
    return _said(solution) if finish == "answer" else None


def _of_field(text: str) -> str | None:
    """The value of a field of JSON, in which models write backslashes once or twice."""
    answer = text.strip('" ').replace("\\\\", "\\")
    return answer if 0 < len(answer) <= MAX_ANSWER else None


def stated_answer(text: str) -> str | None:
    """The answer that the field of a data set states: behind its mark, in its box, in its sentence, or all of it.

    None where there is a mark or a box, and nothing in it.
    """
    text = text.strip()
    if "####" in text:
        return _marked(_BLANKS.sub(" ", text), "answer")
    if "\\boxed" in text or "\\fbox" in text:
        return _boxed(text)
    if (short := _SHORT.match(text)) and re.match(r"\W*ans", text, re.IGNORECASE):
        return text[short.end() :].strip("*_ ")
    said = _SAID.search(text)
    if said is None or (text[: said.start()].strip("*_# ") and not re.match("the |our |my ", said[0], re.IGNORECASE)):
        return text  # no answer is possible
    return _said(text) or text


# -------------------------------------------------------------------------------------------------------------- boxes


def _boxed(text: str) -> str | None:
    """What is in the last boxes that are closed and not empty; one pass, however many are left open."""
    boxes, opened = list[tuple[int, int, str]](), list[tuple[int, int, bool]]()
    for match in _BRACES.finditer(text):
        if match[1] or match[2] == "{":
            opened.append((match.start(), match.end(), bool(match[1])))
        elif match[2] and opened:
            start, inside, is_box = opened.pop()
            if is_box and (content := text[inside : match.start()].strip()):
                while boxes and boxes[-1][0] > start:
                    boxes.pop()
                boxes.append((start, match.end(), content))
        elif match[0].lstrip("\\").startswith(("boxed", "fbox", "framebox")) and (
            bare := _BARE.match(text, match.end())
        ):
            boxes.append((match.start(), bare.end(), bare[0]))
    if not boxes:
        return None
    together = [boxes[-1]]
    for before in reversed(boxes[:-1]):
        between = text[before[1] : together[0][0]]
        if len(between) > 60 or not _joins(between) or len(together) > 20:
            break
        together.insert(0, before)
    if len(together) == 1:
        return together[0][2]
    return ", ".join(_distinct([content for _, _, content in together]))


def _distinct(contents: list[str]) -> list[str]:
    """Without those that only write a later one in another way."""
    values = [read(content) for content in contents]
    return [
        content
        for k, content in enumerate(contents)
        if not any(
            _equal(values[k], later) or contents[k] == contents[k + 1 + j] for j, later in enumerate(values[k + 1 :])
        )
    ]


def _equal(a: Value | None, b: Value | None) -> bool:
    return isinstance(a, Quantity) and isinstance(b, Quantity) and equal(a.expr, b.expr) is True


def _joins(between: str) -> bool:
    """Whether nothing but "or", "and", a comma and a name stand between two boxes."""
    return bool(_BETWEEN.fullmatch(between)) and bool(re.search(r"and|or|,|;|&", between)) and "\n\n" not in between


# -------------------------------------------------------------------------------------------------------------- marks


def _marked(text: str, finish: Finish) -> str | None:
    """What stands behind the last ``####`` before another question."""
    for mark in list(_MARK.finditer(text))[: -MAX_MARKS - 1 : -1]:
        line, end = _line(text, mark.end())
        bare = not line.strip()
        if (bare or _HEADING.fullmatch(line)) and finish == "answer":
            ink = _INK.search(text, end)
            line = _line(text, ink.start())[0] if ink else ""
        content = _only(line.rstrip("# ") if len(line) <= MAX_ANSWER else line)
        if content is None or _HEADS_A_PART.match(content):
            continue
        if (finish == "answer" and not bare) or _is_number(content):
            return content
    return None


def _line(text: str, start: int) -> tuple[str, int]:
    """What is left of a line, and where it ends."""
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    return text[start:end], end


def _only(line: str) -> str | None:
    """An answer without the words round it; None if it is empty or too long."""
    line = line.strip()
    if len(line) > MAX_ANSWER:
        return None
    lead = _LEADS.match(line)
    if lead is not None and lead.end() < len(line) and not (lead[0].strip() == "=" or lead[0].strip("*_ ") == ""):
        line = line[lead.end() :]
    line = _WORKED.sub("", line).strip().strip("*_").strip()
    computed = _COMPUTED.match(line)
    while computed is not None and re.search(r"\d", computed[0]):
        line = line[computed.end() :].strip()
        computed = _COMPUTED.match(line)
    return line or None


def _is_number(text: str) -> bool:
    value = read(text)
    return isinstance(value, Quantity) and not symbols(value.expr) and bool(re.search(r"\d", text))


# ----------------------------------------------------------------------------------------------------------- in words


def _said(text: str) -> str | None:
    """What the last "the answer is" says, if nothing but good wishes or an explanation follow."""
    text = _STYLE.sub("", text)
    text = _DISPLAYED.sub(lambda match: f"$ {' '.join((match[1] or match[2] or '').split()).rstrip(' .')} $", text)
    explained = [match.start() for match in _EXPLAINED.finditer(text)]
    for end in (*explained[:1], len(text)):
        if found := _said_last(text[:end]):
            return found
    return None


def _said_last(text: str) -> str | None:
    lines = [line for line in text.split("\n") if line.strip()]
    for back, line in enumerate(reversed(lines[-6:])):
        below = lines[len(lines) - back :]
        if len(line) > 4 * MAX_ANSWER:
            return None
        content: str | None = None
        if _HEADING.fullmatch(line):
            content, below = (below[0], below[1:]) if below else (None, [])
        elif said := list(_SAID.finditer(line)):
            content = line[said[-1].end() :]
            if not content.strip(" *_:$.") and below:
                content, below = below[0], below[1:]
        elif (short := _SHORT.match(line)) and _is_value(_of_sentence(line[short.end() :])):
            content = line[short.end() :]
        elif (result := _RESULT.search(line)) and _is_value(line[result.end() :]):
            content = line[result.end() :]
        elif (turned := _IS_ANSWER.search(line)) and _is_plain(turned[1]):
            content = turned[1]
        if content is not None:
            return _of_sentence(content) if all(_FAREWELL.search(each) for each in below) else None
    return None


def _of_sentence(content: str) -> str | None:
    clause = _CLAUSE.split(content.strip(), maxsplit=1)[0]
    sentence = _SENTENCE.split(clause, maxsplit=1)[0]
    found = _only(sentence.strip(" \t*_"))
    if not found or _NOWHERE.fullmatch(found):
        return None
    return found.rstrip(" .,;:■□∎✓✔✅") or None


def _is_value(text: str | None) -> bool:
    """Whether it is mathematics, and no words."""
    value = read(_only(text.strip(" .*_")) or "") if text else None
    parts = value.items if isinstance(value, Collection) else (value,)
    return bool(parts) and not any(part is None or isinstance(part, Text) for part in parts)


def _is_plain(text: str) -> bool:
    """Whether the words before "is the answer" are a number or a choice by themselves."""
    return isinstance(read(_only(text) or ""), Choice) or _is_number(_only(text) or "")
