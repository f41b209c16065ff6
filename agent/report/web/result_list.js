// The problems of a study, or its searches, one by one: sorted, filtered, each opening its tree.
import { clear, el, labelled, option } from "./dom.js";
import { duration, line, percent, quantity, visible, whole } from "./text.js";
import { VirtualList } from "./virtual_list.js";

const ROW = 30; // pixels
const SQUARE = 9; // pixels of a search in the strip of a problem
const VERDICTS = [
  ["", "any verdict"],
  ["right", "right"],
  ["wrong", "wrong"],
  ["none", "no answer"],
  ["failed", "failed"],
  ["unknown", "not known"],
];
const SIGNS = { right: "✓", wrong: "✗", none: "–", failed: "!", unknown: "■" };

export class ResultList {
  constructor(model, { open }) {
    this.model = model;
    this.open = open;
    const { results, problems } = model.data;
    this.results = results;
    this.problems = problems;
    this.verdicts = results.cell.map((_, at) => this.verdictOf(at));
    this.of = problems.id.map(() => []); // the results of each problem
    results.problem.forEach((problem, at) => this.of[problem].push(at));
    this.haystacks = problems.id.map((id, at) =>
      `${id}\n${problems.question[at] ?? ""}\n${problems.answer[at] ?? ""}`.toLowerCase(),
    );
    this.filters = { text: "", line: "", level: "", verdict: "", pair: null };
    this.mode = "problems";
    this.sort = { key: "order", down: false };
    this.selected = 0;
    this.box = el("section", { class: "results", id: "problems" });
    this.count = el("p", { class: "state", role: "status" });
    this.listBox = el("div", { class: "list", tabindex: 0, role: "table" });
    this.head = el("div", { class: "list-head", role: "row" });
    this.box.append(el("h2", { text: "Problems" }), this.tools(), this.count, this.listBox);
    this.listBox.append(this.head);
    this.list = new VirtualList(
      this.listBox,
      ROW,
      () => this.emptyRow(),
      (row, at) => this.fillRow(row, at),
    );
    this.listBox.addEventListener("click", (event) => this.clicked(event));
    this.listBox.addEventListener("keydown", (event) => this.key(event));
    this.recolour();
    this.setMode("problems");
  }

  verdictOf(at) {
    const { correct, error, answer } = this.results;
    if (error[at] !== null) return "failed";
    if (answer[at] === null) return "none";
    return correct[at] === null ? "unknown" : correct[at] ? "right" : "wrong";
  }

  // ------------------------------------------------------------------------------------------------------- controls

  tools() {
    const { model } = this;
    const choose = (name, label, options) => {
      const choice = el(
        "select",
        { "aria-label": label, "data-filter": name },
        ...options.map(([value, text]) => option(value, text)),
      );
      choice.addEventListener("change", () => this.filter({ [name]: choice.value }));
      return choice;
    };
    const finder = el("input", {
      type: "search",
      placeholder: "find in id, question, answers",
      "aria-label": "Find problems",
    });
    finder.addEventListener("input", () => this.filter({ text: finder.value.toLowerCase() }));
    const tabs = [
      ["problems", "by problem"],
      ["searches", "by search"],
    ].map(([mode, text]) =>
      el("button", { type: "button", class: "chip", text, "data-mode": mode, on: { click: () => this.setMode(mode) } }),
    );
    this.tabs = tabs;
    this.pairBox = el("span");
    const bar = el(
      "div",
      { class: "tools" },
      el("div", { class: "chips", role: "group", "aria-label": "Rows" }, ...tabs),
      finder,
    );
    bar.append(choose("line", "Line", [["", "all lines"], ...model.names.map((name, at) => [at, line(name, 120)])]));
    if (model.data.levels.length) {
      bar.append(
        choose("level", "Level", [
          ["", "all levels"],
          ...model.data.levels.map((level) => [level, `level ${line(level, 40)}`]),
        ]),
      );
    }
    bar.append(choose("verdict", "Verdict", VERDICTS), this.pairBox);
    return bar;
  }

  // Shows the problems on which the second line does better (sign 1) or worse (-1) than the first.
  showPair(first, second, sign) {
    this.filter({ pair: { first, second, sign } });
    const text = `${line(this.model.names[second], 60)} ${sign > 0 ? "better" : "worse"} than ${line(this.model.names[first], 60)}  ✕`;
    const chip = el("button", {
      type: "button",
      class: "chip",
      "aria-pressed": "true",
      title: "drop this filter",
      text,
    });
    chip.addEventListener("click", () => {
      clear(this.pairBox);
      this.filter({ pair: null });
    });
    clear(this.pairBox).append(chip);
    this.box.scrollIntoView({ behavior: "smooth" });
  }

  pairProblems({ first, second, sign }) {
    const share = (problem, wanted) => {
      const marks = this.of[problem].filter(
        (at) => this.results.line[at] === wanted && this.results.correct[at] !== null,
      );
      return marks.length ? marks.reduce((sum, at) => sum + this.results.correct[at], 0) / marks.length : null;
    };
    return this.problems.id.map((_, problem) => {
      const [one, other] = [share(problem, first), share(problem, second)];
      return one !== null && other !== null && Math.sign(other - one) === sign;
    });
  }

  filter(change) {
    Object.assign(this.filters, change);
    this.update();
  }

  setMode(mode) {
    this.mode = mode;
    this.sort = { key: "order", down: false };
    for (const tab of this.tabs) tab.setAttribute("aria-pressed", String(tab.dataset.mode === mode));
    this.columns = mode === "problems" ? this.problemColumns() : this.searchColumns();
    this.listBox.style.setProperty("--columns", this.columns.map((column) => column.width).join(" "));
    this.listBox.dataset.mode = mode;
    clear(this.head).append(...this.columns.map((column) => this.headCell(column)));
    this.update();
  }

  headCell(column) {
    const button = el("button", { type: "button", class: "plain", text: column.title, "data-sort": column.key });
    button.addEventListener("click", () => {
      this.sort = { key: column.key, down: this.sort.key === column.key && !this.sort.down };
      this.update();
    });
    return el("span", { role: "columnheader", class: column.kind ?? "" }, button);
  }

  // ------------------------------------------------------------------------------------------------------ the columns

  problemColumns() {
    const { problems } = this;
    const levels = this.model.data.levels;
    return [
      {
        key: "order",
        title: "problem",
        width: "minmax(110px, 1.2fr)",
        text: (at) => line(problems.id[at], 80),
        value: (at) => at,
      },
      ...(levels.length
        ? [
            {
              key: "level",
              title: "level",
              width: "70px",
              text: (at) => line(problems.level[at] ?? "–", 20),
              value: (at) => levels.indexOf(problems.level[at]),
            },
          ]
        : []),
      {
        key: "question",
        title: "question",
        width: "minmax(160px, 3fr)",
        text: (at) => line(problems.question[at], 300),
        value: (at) => problems.question[at],
      },
      {
        key: "gold",
        title: "gold answer",
        width: "minmax(80px, 1fr)",
        text: (at) => line(problems.answer[at] ?? "not known", 80),
        value: (at) => problems.answer[at] ?? "",
      },
      {
        key: "right",
        title: "right",
        width: "74px",
        kind: "num",
        text: (at) => this.rightText(at),
        value: (at) => this.rightShare(at),
      },
      { key: "searches", title: "searches", width: "minmax(120px, 1.6fr)", value: (at) => this.shown[at]?.length ?? 0 },
    ];
  }

  searchColumns() {
    const { results, problems, model } = this;
    const lines = model.names;
    const plain = (key, title, width, show, kind = "num") => ({
      key,
      title,
      width,
      kind,
      text: (at) => show(results[key][at]),
      value: (at) => results[key][at] ?? -1,
    });
    return [
      {
        key: "order",
        title: "problem",
        width: "minmax(110px, 1.2fr)",
        text: (at) => line(problems.id[results.problem[at]], 80),
        value: (at) => results.problem[at] * 1e6 + results.line[at],
      },
      {
        key: "line",
        title: "line",
        width: "minmax(150px, 2fr)",
        text: (at) => line(lines[results.line[at]], 120),
        value: (at) => results.line[at],
      },
      plain("seed", "seed", "56px", (value) => String(value)),
      {
        key: "answer",
        title: "answer",
        width: "minmax(90px, 1.4fr)",
        text: (at) =>
          results.error[at] === null ? line(results.answer[at] ?? "–", 120) : line(results.error[at], 120),
        value: (at) => results.answer[at] ?? "",
      },
      {
        key: "verdict",
        title: "verdict",
        width: "92px",
        text: (at) => `${SIGNS[this.verdicts[at]]} ${VERDICTS.find(([name]) => name === this.verdicts[at])[1]}`,
        value: (at) => this.verdicts[at],
      },
      plain("confidence", "share", "70px", (value) => percent(value, 0)),
      plain("samples", "samples", "80px", (value) => String(value)),
      plain("flops", "FLOP", "84px", (value) => quantity(value)),
      plain("tokens", "tokens", "76px", (value) => quantity(value)),
      plain("seconds", "time", "76px", duration),
      {
        key: "tree",
        title: "tree",
        width: "64px",
        text: (at) => (results.place[at] ? "open ›" : "no tree"),
        value: (at) => (results.place[at] ? 1 : 0),
      },
    ];
  }

  rightShare(problem) {
    const known = (this.shown[problem] ?? []).filter((at) => this.results.correct[at] !== null);
    return known.length ? known.reduce((sum, at) => sum + this.results.correct[at], 0) / known.length : -1;
  }

  rightText(problem) {
    const known = (this.shown[problem] ?? []).filter((at) => this.results.correct[at] !== null);
    return known.length ? `${known.reduce((sum, at) => sum + this.results.correct[at], 0)} / ${known.length}` : "–";
  }

  // ----------------------------------------------------------------------------------------------- what is in the list

  update() {
    const { filters, results, problems } = this;
    const pair = filters.pair && this.pairProblems(filters.pair);
    const wantedLine = filters.line === "" ? -1 : Number(filters.line);
    const problemFits = problems.id.map(
      (_, at) => (!pair || pair[at]) && (!filters.level || problems.level[at] === filters.level),
    );
    const textFits = problems.id.map((_, at) => !filters.text || this.haystacks[at].includes(filters.text));
    this.shown = problems.id.map(() => []); // the results that fit, by problem
    const fitting = [];
    for (let at = 0; at < results.cell.length; at++) {
      const problem = results.problem[at];
      if (!problemFits[problem]) continue;
      if (wantedLine >= 0 && results.line[at] !== wantedLine) continue;
      if (filters.verdict && this.verdicts[at] !== filters.verdict) continue;
      if (!textFits[problem] && !(results.answer[at] ?? "").toLowerCase().includes(filters.text)) continue;
      fitting.push(at);
      this.shown[problem].push(at);
    }
    const untouched = wantedLine < 0 && !filters.verdict;
    const shownProblems = problems.id
      .map((_, at) => at)
      .filter((at) => this.shown[at].length || (untouched && !this.of[at].length && problemFits[at] && textFits[at]));
    this.rows = this.mode === "problems" ? shownProblems : fitting;
    this.sorted();
    this.count.textContent = `${whole(shownProblems.length)} of ${whole(problems.id.length)} problems · ${whole(fitting.length)} of ${whole(results.cell.length)} searches`;
    this.selected = 0;
    this.listBox.scrollTop = 0;
    this.list.show(this.rows.length);
    for (const cell of this.head.children) {
      const button = cell.firstChild;
      const here = button.dataset.sort === this.sort.key;
      cell.setAttribute("aria-sort", here ? (this.sort.down ? "descending" : "ascending") : "none");
    }
  }

  sorted() {
    const column = this.columns.find((each) => each.key === this.sort.key);
    const values = new Map(this.rows.map((at) => [at, column.value(at)]));
    const sign = this.sort.down ? -1 : 1;
    this.rows.sort((a, b) => {
      const [one, other] = [values.get(a), values.get(b)];
      return one < other ? -sign : one > other ? sign : a - b;
    });
  }

  emptyRow() {
    const row = el("div", { class: "list-row", role: "row" });
    row.addEventListener("mousemove", (event) => this.hover(row, event));
    return row;
  }

  fillRow(row, at) {
    const entry = this.rows[at];
    if (row.mode !== this.mode) {
      row.mode = this.mode;
      clear(row).append(...this.columns.map((column) => el("span", { role: "cell", class: column.kind ?? "" })));
      row.strip = this.mode === "problems" ? row.lastChild.appendChild(el("canvas", { class: "strip" })) : null;
    }
    row.classList.toggle("selected", at === this.selected);
    this.columns.forEach((column, number) => {
      if (!column.text) return;
      const cell = row.children[number];
      cell.textContent = column.text(entry);
      if (column.key === "verdict")
        cell.className = { right: "good", wrong: "bad", failed: "bad" }[this.verdicts[entry]] ?? "";
      if (column.key === "question" || column.key === "answer" || column.key === "order") cell.title = cell.textContent;
    });
    if (row.strip) this.drawStrip(row.strip, entry);
  }

  // A square for each search of a problem: a high one is right, a low one is wrong; in grey what the filters leave out.
  drawStrip(canvas, problem) {
    const all = this.of[problem];
    const fits = new Set(this.shown[problem]);
    const scale = window.devicePixelRatio || 1;
    const room = canvas.parentElement.clientWidth || 160;
    const square = Math.max(2, Math.min(SQUARE, Math.floor(room / Math.max(1, all.length))));
    canvas.square = square;
    canvas.style.width = `${square * all.length}px`;
    canvas.width = square * all.length * scale;
    canvas.height = 18 * scale;
    const context = canvas.getContext("2d");
    const colours = this.colours;
    context.scale(scale, scale);
    all.forEach((at, number) => {
      const verdict = this.verdicts[at];
      context.globalAlpha = fits.has(at) ? 1 : 0.18;
      context.fillStyle = colours[verdict] ?? colours.other;
      const high = { right: 16, wrong: 7 }[verdict] ?? 3;
      context.fillRect(number * square, 17 - high, square - (square > 3 ? 1.5 : 0), high);
    });
  }

  // Reads the colours of the style sheet, at first and after a change of the theme.
  recolour() {
    const style = getComputedStyle(document.documentElement);
    const [high, low, dim] = ["--high", "--low", "--dim"].map((name) => style.getPropertyValue(name));
    this.colours = { right: high, wrong: low, failed: low, other: dim };
    this.list.draw();
  }

  stripAt(row, event) {
    if (!row.strip || event.target !== row.strip) return null;
    const at = Math.floor((event.clientX - row.strip.getBoundingClientRect().left) / row.strip.square);
    return this.of[this.rows[row.number]][at] ?? null;
  }

  hover(row, event) {
    const at = this.stripAt(row, event);
    if (at === null) return;
    const { results, model } = this;
    const verdict = VERDICTS.find(([name]) => name === this.verdicts[at])[1];
    row.strip.title = `${line(model.names[results.line[at]], 120)}, seed ${results.seed[at]}: ${line(results.answer[at] ?? "–", 60)}, ${verdict}`;
  }

  clicked(event) {
    const row = event.target.closest(".list-row");
    if (!row) return;
    this.selected = row.number;
    this.list.draw();
    this.openRow(row.number, this.stripAt(row, event));
  }

  // Opens a search of a row: the one that was meant, or the first that has a tree.
  openRow(number, meant = null) {
    const entry = this.rows[number];
    const candidates = this.mode === "searches" ? [entry] : [...this.shown[entry], ...this.of[entry]];
    const chosen = meant ?? candidates.find((at) => this.results.place[at]) ?? candidates[0];
    if (chosen !== undefined) this.open(chosen);
  }

  key(event) {
    const moves = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: this.list.page(),
      PageUp: -this.list.page(),
      Home: -1e9,
      End: 1e9,
    };
    if (event.key in moves) {
      this.selected = Math.max(0, Math.min(this.rows.length - 1, this.selected + moves[event.key]));
      this.list.reveal(this.selected);
    } else if (event.key === "Enter" && event.target === this.listBox && this.rows.length) this.openRow(this.selected);
    else return;
    event.preventDefault();
  }

  print() {
    this.list.print(2);
  }

  printed() {
    this.list.printed();
  }
}

export function searchTitle(model, at) {
  const { results } = model.data;
  return visible(
    `${model.names[results.line[at]]}${model.data.about.seeds?.length > 1 ? `, seed ${results.seed[at]}` : ""}`,
  );
}
