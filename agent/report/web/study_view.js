// The page of a study: its figures, and the list of its problems.
import { bars, forest, legend, pointChart, responsive } from "./charts.js";
import { clear, el, labelled, option } from "./dom.js";
import { ResultList } from "./result_list.js";
import { line, percent, points, quantity, score, visible, whole } from "./text.js";

const COSTS = [
  ["flops", "FLOP per problem, policy and verifier", "FLOP"],
  ["generated", "policy tokens generated per problem", ""],
  ["samples", "samples per problem", ""],
  ["seconds", "seconds of a search among others", "s"],
];

export class StudyView {
  // `open(search)` is called with the number of a result whose tree a person wants to see.
  constructor(model, { open }) {
    this.model = model;
    this.setup = model.setups[0];
    this.box = el("article", { class: "study" });
    this.results = new ResultList(model, { open });
    this.figures = el("div", { class: "figures" });
    this.box.append(this.header(), this.figures, this.results.box);
    this.draw();
  }

  header() {
    const { model } = this;
    const { about, results } = model.data;
    const facts = [
      `${about.split} split`,
      `${whole(model.data.problems.id.length)} problems`,
      `${whole(results.cell.length)} of ${whole(about.total)} searches`,
      about.seeds && `seed${about.seeds.length > 1 ? "s" : ""} ${about.seeds.join(", ")}`,
      about.vote && `vote: ${about.vote.rule} of ${about.vote.aggregate}`,
      about.temperature !== undefined && `temperature ${about.temperature}`,
    ];
    const head = el("header", { class: "study-head" }, el("h1", { text: line(model.data.file) }));
    head.append(el("p", { class: "dim", text: facts.filter(Boolean).join(" · ") }));
    for (const text of this.notes()) head.append(el("p", { class: "note", text }));
    if (model.setups.length > 1) {
      const choice = el("select", { "aria-label": "Environment, policy and verifier" });
      choice.append(...model.setups.map((setup, at) => option(at, line(setup.title, 160))));
      choice.addEventListener("change", () => {
        this.setup = model.setups[choice.value];
        this.draw();
      });
      head.append(labelled("figures of", choice));
    } else head.append(el("p", { class: "dim", text: line(this.setup.title, 300) }));
    return head;
  }

  // What the page lacks, and what labels leave out.
  notes() {
    const {
      about,
      results,
      trees_kept: kept,
      trees_left_out: out,
      trees_wanted: wanted,
      notes,
      pairs_left_out: pairs,
    } = this.model.data;
    const told = notes.map((text) => line(text));
    if (results.cell.length < about.total)
      told.push(`${whole(about.total - results.cell.length)} searches have no result yet.`);
    const errors = results.error.filter((error) => error !== null).length;
    if (errors) told.push(`${whole(errors)} searches failed and count as wrong.`);
    if (!kept) told.push("The study kept no search graphs, so that no tree can be opened.");
    else if (out && wanted) {
      told.push(
        `${whole(out)} of ${whole(kept)} trees are not in this page, which would be too large; stepwell report FILE --problem ID --html OUT writes those of one problem.`,
      );
    } else if (out)
      told.push(
        `Only the trees of the problem that was asked for are in this page: ${whole(kept - out)} of ${whole(kept)}.`,
      );
    if (pairs)
      told.push(
        `${whole(pairs)} lines of the study are not compared with each other; the first ones of each environment are.`,
      );
    return told;
  }

  draw() {
    clear(this.figures);
    const add = (title, content, wide = false) =>
      this.figures.append(
        el(
          "section",
          { class: `figure ${wide ? "wide" : ""}`, id: title.replace(/\W+/g, "-").toLowerCase() },
          el("h2", { text: title }),
          ...content,
        ),
      );
    add("Accuracy over compute", this.accuracy());
    add("Accuracy by level", this.levels());
    add("Paired differences", this.differences(), true);
    add("Votes", this.votes(), true);
    add("Calibration of the verifier", this.calibration());
    add("Where the compute went", this.compute());
  }

  strategyLegend(lines) {
    const { model } = this;
    const names = [...new Set(lines.map((at) => model.lines[at].strategy))];
    return legend(names.map((name) => [model.strategies.indexOf(name), line(name, 60)]));
  }

  accuracy() {
    const { model } = this;
    const lines = this.setup.lines.filter((at) => model.lines[at].accuracy !== null);
    if (!lines.length) return [empty("no search is over of which it is known whether it is right")];
    const known = COSTS.filter(([name]) => lines.some((at) => model.lines[at].cost[name] > 0));
    const choice = el("select", { "aria-label": "Cost" }, ...known.map(([name, text]) => option(name, text)));
    const place = el("div");
    const draw = () => {
      const [name, label, unit] = known.find(([each]) => each === choice.value) ?? known[0];
      const shown = lines.filter((at) => model.lines[at].cost[name] > 0);
      const series = [...new Set(shown.map((at) => model.mark(at)))].map((mark) => ({
        mark,
        joined: true,
        points: shown
          .filter((at) => model.mark(at) === mark)
          .map((at) => {
            const { cost, accuracy, low, high, n } = model.lines[at];
            const text = `${model.shortNames[at]}: ${percent(accuracy)} (${percent(low)} to ${percent(high)}), ${quantity(cost[name], unit)}, ${n} problems`;
            return { x: cost[name], y: accuracy, low, high, tip: text };
          }),
      }));
      const format = (value) => quantity(Number(value.toPrecision(3)));
      const spec = {
        series,
        x: { log: true, label, format },
        y: { domain: [0, top(series)], label: "accuracy", format: (value) => percent(value, 0) },
      };
      clear(place).append(responsive((width) => pointChart(width, spec)));
    };
    choice.addEventListener("change", draw);
    draw();
    const rows = lines.map((at) => {
      const { accuracy, low, high, n, errors, cost } = model.lines[at];
      return [
        model.shortNames[at],
        percent(accuracy),
        `${percent(low)} to ${percent(high)}`,
        n,
        errors || "",
        cost.samples,
        quantity(cost.flops),
        quantity(cost.generated),
      ];
    });
    return [
      labelled("over", choice),
      place,
      this.strategyLegend(lines),
      el("p", { class: "caption", text: "Bars: 95 % intervals; the problem is the sampling unit." }),
      numbers(["line", "right", "95 %", "problems", "failed", "samples", "FLOP", "policy tokens"], rows),
    ];
  }

  levels() {
    const { model } = this;
    const lines = model.largest(this.setup.lines).filter((at) => model.lines[at].levels.length);
    if (!lines.length) return [empty("the problems of this study have no levels")];
    const names = model.data.levels.filter((level) =>
      lines.some((at) => model.lines[at].levels.some((each) => each.level === level)),
    );
    const series = lines.map((at, place) => ({
      mark: model.mark(at),
      joined: false,
      points: model.lines[at].levels.map(({ level, n, accuracy, low, high }) => ({
        x: names.indexOf(level) + 0.7 * ((place + 0.5) / lines.length - 0.5),
        y: accuracy,
        low,
        high,
        tip: `${model.shortNames[at]}, level ${line(level, 40)}: ${percent(accuracy)} (${percent(low)} to ${percent(high)}), ${n} problems`,
      })),
    }));
    const spec = {
      series,
      x: { categories: names.map((name) => line(name, 12)), label: "level" },
      y: { domain: [0, 1], label: "accuracy", format: (value) => percent(value, 0) },
    };
    const rows = lines.map((at) => [
      model.shortNames[at],
      ...names.map((name) => {
        const found = model.lines[at].levels.find((each) => each.level === name);
        return found
          ? `${percent(found.accuracy, 0)} (${percent(found.low, 0)} to ${percent(found.high, 0)}), n ${found.n}`
          : "–";
      }),
    ]);
    return [
      responsive((width) => pointChart(width, spec)),
      this.strategyLegend(lines),
      el("p", { class: "caption", text: "Each strategy at its largest budget. Bars: 95 % intervals." }),
      numbers(["line", ...names.map((name) => `level ${line(name, 20)}`)], rows),
    ];
  }

  differences() {
    const { model } = this;
    const known = this.setup.lines.filter((at) => model.lines[at].accuracy !== null);
    if (known.length < 2) return [empty("there are no two lines to compare")];
    const same = model.lines
      .map((each, at) => [each, at])
      .filter(([each]) => each.accuracy !== null && each.environment === this.setup.environment);
    const choices = () => same.map(([, at]) => option(at, line(model.names[at], 160)));
    const first = el("select", { "aria-label": "First line" }, ...choices());
    const second = el("select", { "aria-label": "Second line" }, ...choices());
    const baselines = model.data.baseline;
    const compared = known.filter((at) => baselines[at] !== null);
    second.value = compared.at(-1) ?? known.at(-1);
    first.value = baselines[second.value] ?? known[0];
    const told = el("p", { class: "verdict", role: "status" });
    const place = el("div");
    const draw = () => {
      const [a, b] = [Number(first.value), Number(second.value)];
      clear(told);
      const found = model.difference(a, b);
      if (!found) told.append(a === b ? "Both are the same line." : "These two lines share no problem.");
      else {
        const sure = found.low > 0 || found.high < 0;
        told.append(
          el("strong", {
            class: sure ? (found.value > 0 ? "good" : "bad") : "",
            text: `${points(found.value)} points`,
          }),
          ` (95 %: ${points(found.low)} to ${points(found.high)}) over ${whole(found.n)} problems of both: `,
          this.pick(`${whole(found.better)} better`, a, b, 1),
          ", ",
          this.pick(`${whole(found.worse)} worse`, a, b, -1),
          sure ? "." : ". The interval holds 0.",
        );
      }
      const rows = known
        .filter((at) => at !== a)
        .flatMap((at) => {
          const each = model.difference(a, at);
          if (!each) return [];
          const note = `${points(each.value)} (${points(each.low)} to ${points(each.high)})`;
          return [
            {
              ...each,
              label: model.shortNames[at],
              mark: model.mark(at),
              note,
              tip: `${model.names[at]} less ${model.names[a]}: ${note}, ${each.n} problems, ${each.better} better, ${each.worse} worse`,
            },
          ];
        });
      clear(place).append(responsive((width) => forest(width, rows, `points more than ${model.shortNames[a]}`)));
      place.append(
        numbers(
          ["line", "difference", "problems", "better", "worse"],
          rows.map((row) => [row.label, row.note, row.n, row.better, row.worse]),
        ),
      );
    };
    for (const each of [first, second]) each.addEventListener("change", draw);
    draw();
    return [
      el("div", { class: "pair" }, labelled("compared with", first), labelled("line", second)),
      told,
      place,
      el("p", {
        class: "caption",
        text: "Differences are paired by problem, seeds averaged; intervals of 95 % (Agresti and Min 2005). One in twenty of many comparisons leaves 0 out by accident.",
      }),
    ];
  }

  pick(text, first, second, sign) {
    return el("button", {
      type: "button",
      class: "plain link",
      text,
      title: "show these problems in the list",
      on: { click: () => this.results.showPair(first, second, sign) },
    });
  }

  votes() {
    const { model } = this;
    const rows = model.data.votes.filter(([at]) => this.setup.lines.includes(at));
    if (!rows.length)
      return [
        empty(
          model.data.votes_silent[this.setup.environment] ??
            Object.values(model.data.votes_silent)[0] ??
            "no line has scores",
        ),
      ];
    const columns = [
      ["majority", "last"],
      ...["max", "vote"].flatMap((rule) => ["last", "min", "mean", "product"].map((how) => [rule, how])),
    ];
    const byLine = new Map();
    for (const [at, rule, how, ...values] of rows) {
      if (!byLine.has(at)) byLine.set(at, new Map());
      byLine.get(at).set(`${rule} ${how}`, values);
    }
    const own = model.data.about.vote;
    const head = el(
      "tr",
      {},
      el("th", { text: "line" }),
      ...columns.map(([rule, how]) =>
        el(
          "th",
          { class: own && own.rule === rule && (own.aggregate === how || rule === "majority") ? "own" : "" },
          el("span", { text: rule }),
          rule === "majority" ? null : el("span", { class: "dim", text: ` ${how}` }),
        ),
      ),
    );
    const far = Math.max(0.01, ...rows.map((row) => Math.abs(row[6])));
    const body = [...byLine].map(([at, votes]) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", text: model.shortNames[at] }),
        ...columns.map(([rule, how]) => {
          const [accuracy, low, high, difference, from, to] = votes.get(`${rule} ${how}`);
          const sure = from > 0 || to < 0;
          return el(
            "td",
            {
              class: `heat ${difference < 0 ? "less" : "more"}`,
              var: { "--far": Math.abs(difference) / far },
              title: `${percent(accuracy)} (${percent(low)} to ${percent(high)}); ${points(difference)} points (${points(from)} to ${points(to)}) to the study's own vote`,
            },
            el("span", { class: sure ? "strong" : "", text: percent(accuracy) }),
            el("span", {
              class: "small",
              text: difference === 0 ? "=" : `${points(difference)} (${points(from)} to ${points(to)})`,
            }),
          );
        }),
      ),
    );
    return [
      el("div", { class: "scroll" }, el("table", { class: "heatmap" }, head, ...body)),
      el("p", {
        class: "caption",
        text: `Accuracy under every vote, from the stored scores; below it, the paired difference in points to the study's own vote${own ? ` (${own.rule} of ${own.aggregate})` : ""} and its 95 % interval. Bold: the interval leaves 0 out.`,
      }),
    ];
  }

  calibration() {
    const { model } = this;
    const known = model.data.calibration.filter((row) => this.setup.lines.includes(row.line));
    if (!known.length)
      return [empty(model.data.missing.calibration ?? "no line of these parts has scores and known verdicts")];
    const choice = el(
      "select",
      { "aria-label": "Line" },
      ...known.map((row) => option(row.line, line(model.shortNames[row.line], 100))),
    );
    choice.value = known.reduce((best, row) => (row.candidates > best.candidates ? row : best)).line;
    const place = el("div");
    const draw = () => {
      const at = Number(choice.value);
      const bins = model.data.reliability.filter((row) => row.line === at);
      const most = Math.max(...bins.map((bin) => bin.candidates));
      const points = bins.map((bin) => ({
        x: bin.score,
        y: bin.right,
        low: bin.low,
        high: bin.high,
        size: 3 + 5 * Math.sqrt(bin.candidates / most),
        tip: `scores about ${score(bin.score)}: ${percent(bin.right)} right (${percent(bin.low)} to ${percent(bin.high)}), ${whole(bin.candidates)} candidates`,
      }));
      const format = (value) => value.toFixed(1);
      const spec = {
        series: [{ mark: model.mark(at), joined: false, points }],
        diagonal: true,
        x: { domain: [-0.02, 1.02], label: "last score of the candidate", format },
        y: { domain: [0, 1], label: "share that is right", format: (value) => percent(value, 0) },
      };
      const row = known.find((each) => each.line === at);
      clear(place).append(
        responsive((width) => pointChart(width, spec)),
        el("p", {
          class: "facts-line",
          text: `${whole(row.candidates)} candidates · mean score ${score(row.score)}, right ${percent(row.right)} · ECE ${score(row.ece)} · AUROC ${score(row.auroc)}, within a search ${score(row.within)}`,
        }),
        el("p", {
          class: "caption",
          text: "Share of candidates that are right, over their score; the size of a point is how many there are. On the line, scores are probabilities. Bars: 95 % intervals.",
        }),
        numbers(
          ["scores about", "right", "95 %", "candidates"],
          bins.map((bin) => [
            score(bin.score),
            percent(bin.right),
            `${percent(bin.low)} to ${percent(bin.high)}`,
            whole(bin.candidates),
          ]),
        ),
      );
    };
    choice.addEventListener("change", draw);
    draw();
    return [labelled("line", choice), place];
  }

  compute() {
    const { model } = this;
    const rows = model.data.compute.filter((row) => this.setup.lines.includes(row.line));
    if (!rows.length) return [empty(model.data.missing.compute ?? "no search is over")];
    const most = Math.max(...rows.map((row) => row.flops));
    const part = (value, kind, text) => ({ value, kind, tip: text });
    const flops = rows.map((row) => ({
      label: model.shortNames[row.line],
      note: quantity(row.flops),
      parts: [
        part(row.flops * row.policy_share, "part-policy", `policy ${percent(row.policy_share)}`),
        part(row.flops * row.verifier_share, "part-verifier", `verifier ${percent(row.verifier_share)}`),
      ],
    }));
    const fated = rows.filter((row) => row.kept !== undefined && row.kept !== null);
    const fates = fated.map((row) => ({
      label: model.shortNames[row.line],
      note: percent(row.kept, 0),
      parts: [
        part(row.kept, "part-kept", `of candidates ${percent(row.kept)}`),
        part(row.dropped, "part-dropped", `of no candidate ${percent(row.dropped)}`),
        part(row.rollouts, "part-rollouts", `looked ahead ${percent(row.rollouts)}`),
      ],
    }));
    const parts = [
      el("h3", { text: "FLOP per search" }),
      responsive((width) => bars(width, flops, most)),
      swatches([
        ["part-policy", "policy"],
        ["part-verifier", "verifier"],
      ]),
    ];
    if (fates.length) {
      parts.push(
        el("h3", { text: "Policy tokens" }),
        responsive((width) => bars(width, fates, 1)),
      );
      parts.push(
        swatches([
          ["part-kept", "steps of candidates"],
          ["part-dropped", "steps of no candidate: pruned, cut or left open"],
          ["part-rollouts", "only looked ahead"],
        ]),
      );
    } else parts.push(empty("the study kept no graphs: what became of the tokens is not known"));
    parts.push(
      numbers(
        ["line", "FLOP", "policy", "verifier", "kept", "dropped", "rollouts"],
        rows.map((row) => [
          model.shortNames[row.line],
          quantity(row.flops),
          percent(row.policy_share),
          percent(row.verifier_share),
          percent(row.kept),
          percent(row.dropped),
          percent(row.rollouts),
        ]),
      ),
    );
    return parts;
  }

  print() {
    for (const each of this.box.querySelectorAll("details")) each.open = true;
    this.results.print();
  }

  printed() {
    this.results.printed();
  }
}

function top(series) {
  const high = Math.max(...series.flatMap((each) => each.points.map((point) => point.high)));
  return Math.min(1, Math.ceil(high * 10 + 0.2) / 10);
}

function empty(text) {
  return el("p", { class: "note", text: `Not shown: ${visible(text)}.` });
}

function swatches(kinds) {
  return el(
    "p",
    { class: "legend" },
    ...kinds.map(([kind, text]) => el("span", { class: "key" }, el("span", { class: `swatch ${kind}` }), text)),
  );
}

// The numbers of a figure as a table, closed at first.
function numbers(head, rows) {
  const cells = (row, tag) =>
    el("tr", {}, ...row.map((value, at) => el(at === 0 ? "th" : tag, { text: visible(String(value ?? "–")) })));
  const table = el("table", { class: "numbers" }, cells(head, "th"), ...rows.map((row) => cells(row, "td")));
  return el(
    "details",
    { class: "numbers-box" },
    el("summary", { text: "Numbers" }),
    el("div", { class: "scroll" }, table),
  );
}
