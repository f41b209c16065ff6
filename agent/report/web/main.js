// The page: reads its data, and shows what its address names.
import { clear, el, labelled, option } from "./dom.js";
import { searchTitle } from "./result_list.js";
import { SearchModel } from "./search_model.js";
import { absent, SearchView } from "./search_view.js";
import { StudyModel } from "./study_model.js";
import { StudyView } from "./study_view.js";
import { line } from "./text.js";

const KEYS = [
  ["↑ ↓ PgUp PgDn Home End", "move over the nodes"],
  ["→ ← Enter", "open, close"],
  ["* p", "open all; close all but the chosen path"],
  ["/ n N", "find; the next match; the match before"],
  ["[ ] space", "a node back, a node on, let it grow"],
  ["j m l", "copy the subtree as JSON, as Markdown; copy a link"],
  ["b t ?", "back to the study; light or dark; this list"],
];

class Page {
  constructor(data) {
    this.data = data;
    this.study = data.kind === "study" ? new StudyModel(data) : null;
    this.models = new Map();
    this.panes = [];
    this.serial = 0;
    this.root = document.getElementById("page");
    this.body = el("main", { id: "body" });
    this.root.append(this.bar(), this.body, this.help());
    window.addEventListener("popstate", () => this.route());
    window.addEventListener("hashchange", () => this.route());
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    window.addEventListener("beforeprint", () => this.shown().forEach((view) => view.print()));
    window.addEventListener("afterprint", () => this.shown().forEach((view) => view.printed()));
    this.address = location.hash;
    this.route();
  }

  bar() {
    const button = (text, title, run) =>
      el("button", { type: "button", class: "ghost", text, title, "aria-label": title, on: { click: run } });
    this.place = el("nav", { class: "place" });
    return el(
      "header",
      { class: "bar" },
      el("span", { class: "brand", text: "Stepwell" }),
      this.place,
      el("span", { class: "grow" }),
      button("light / dark", "light or dark (t)", () => this.theme()),
      button("print", "print this page", () => window.print()),
      button("keys", "what keys do (?)", () => this.dialog.showModal()),
    );
  }

  help() {
    const rows = KEYS.map(([keys, what]) =>
      el("tr", {}, el("th", {}, el("kbd", { text: keys })), el("td", { text: what })),
    );
    const close = el("button", { type: "button", text: "close", on: { click: () => this.dialog.close() } });
    this.dialog = el(
      "dialog",
      { "aria-label": "Keys" },
      el("h2", { text: "Keys" }),
      el("table", { class: "facts" }, ...rows),
      close,
    );
    return this.dialog;
  }

  theme() {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
    document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
    this.recolour();
  }

  // Pictures do not follow the style sheet by themselves.
  recolour() {
    for (const view of this.panes) view.map.recolour();
    this.studyView?.results.recolour();
  }

  shown() {
    return this.panes.length ? this.panes : this.studyView ? [this.studyView] : [];
  }

  // --------------------------------------------------------------------------------------------------- the searches

  // The searches of the page: [key, name, problem, place of the packed tree or null].
  get searches() {
    if (this.entries) return this.entries;
    const { data, study } = this;
    if (!study) this.entries = data.searches.map((each, at) => [String(at), each.name, each.problem, each.place]);
    else {
      const { cell, problem, place } = data.results;
      this.entries = cell.map((each, at) => [
        `${each}.${data.problems.number[problem[at]]}`,
        searchTitle(study, at),
        problem[at],
        place[at],
      ]);
    }
    this.byKey = new Map(this.entries.map((entry) => [entry[0], entry]));
    return this.entries;
  }

  async model(entry) {
    const [key, , , place] = entry;
    if (!this.models.has(key)) this.models.set(key, new SearchModel(await unpack(place)));
    return this.models.get(key);
  }

  // -------------------------------------------------------------------------------------------------------- addresses

  // Goes to an address of this page. A frame of a notebook has no history; the page then only remembers.
  go(address, add) {
    this.address = address;
    try {
      history[add ? "pushState" : "replaceState"](null, "", address || "#");
    } catch {
      this.framed = true;
    }
  }

  link(key, node) {
    const other = this.panes.map((view) => view.id).find((each) => each !== key);
    const address = new URLSearchParams({ search: key, node: String(node), ...(other ? { with: other } : {}) });
    return `${location.href.split("#")[0]}#${address}`;
  }

  async route() {
    if (!this.framed) this.address = location.hash;
    const asked = new URLSearchParams(this.address.replace(/^#/, ""));
    const { searches } = this;
    let first = this.byKey.get(asked.get("search") ?? "");
    let second = this.byKey.get(asked.get("with") ?? "");
    if (!this.study && !first) {
      first = searches[0];
      if (!asked.has("search") && searches[1] && searches[1][2] === first[2]) second = searches[1];
    }
    const turn = ++this.serial;
    if (!first) return this.showStudy();
    if (second && (second[2] !== first[2] || second === first)) second = undefined;
    const views = await Promise.all([first, second].filter(Boolean).map((entry) => this.view(entry)));
    if (turn !== this.serial) return undefined; // another address was asked for meanwhile
    this.showSearches([first, second].filter(Boolean), views);
    const node = Number(asked.get("node"));
    const [view] = this.panes;
    if (!view) return undefined;
    if (asked.has("time")) view.setTime(Number(asked.get("time")) || 0);
    if (Number.isInteger(node) && node > 0 && node < view.model.size) view.select(node, false);
    return undefined;
  }

  async view(entry) {
    const [key, name, , place] = entry;
    if (!place) return absent(`The tree of this search is not in this page. ${this.why()}`);
    const model = await this.model(entry);
    const view = new SearchView(model, {
      title: line(name, 200),
      changed: (change) => this.changed(view, change),
      link: (node) => this.link(key, node),
    });
    view.id = key;
    view.listBox.id = `tree-${key.replace(".", "-")}`;
    view.listBox.addEventListener("focus", () => (this.active = view));
    view.box.addEventListener("pointerdown", () => (this.active = view));
    return view;
  }

  why() {
    return this.data.trees_kept
      ? "stepwell report FILE --problem ID --html OUT writes the trees of one problem."
      : "The study kept no search graphs.";
  }

  changed(view, { node, time }) {
    if (time !== undefined && this.together?.checked) {
      for (const other of this.panes) if (other !== view) other.setTime(other.timeOf(view.model.spent[time]));
    }
    if (view !== this.panes[0]) return;
    const asked = new URLSearchParams(this.address.replace(/^#/, ""));
    asked.set("search", view.id);
    if (node !== undefined) asked.set("node", String(node));
    if (view.view.time < view.model.size - 1) asked.set("time", String(view.view.time));
    else asked.delete("time");
    clearTimeout(this.later);
    this.later = setTimeout(() => this.go(`#${asked}`, false), 150);
  }

  // ------------------------------------------------------------------------------------------------------ what is shown

  showStudy() {
    const { body, place } = this;
    this.panes = [];
    this.active = null;
    clear(place);
    this.studyView ??= new StudyView(this.study, { open: (at) => this.openSearch(this.searches[at][0]) });
    document.documentElement.classList.remove("full");
    clear(body).append(this.studyView.box);
    this.studyView.results.list.draw();
    window.scrollTo(0, this.scrolled ?? 0);
  }

  openSearch(key, other = "") {
    if (!this.panes.length) this.scrolled = window.scrollY;
    this.go(`#${new URLSearchParams({ search: key, ...(other ? { with: other } : {}) })}`, true);
    this.route();
  }

  back() {
    this.go("", true);
    this.route();
  }

  showSearches(entries, views) {
    const [first, second] = entries;
    this.panes = views.filter((view) => view instanceof SearchView);
    this.active = this.panes[0] ?? null;
    clearTimeout(this.later);
    clear(this.place).append(...this.choices(first, second));
    document.documentElement.classList.add("full");
    const notes = (this.data.notes ?? []).map((text) => el("p", { class: "note", text: line(text) }));
    const box = el(
      "div",
      { class: `panes ${views.length > 1 ? "two" : ""}` },
      ...views.map((view) => view.box ?? view),
    );
    clear(this.body).append(...notes, box);
    window.scrollTo(0, 0);
    for (const view of this.panes) {
      view.update();
      const at = view.rows.indexOf(view.view.selected);
      if (at > 0) view.list.reveal(at);
    }
    this.panes[0]?.listBox.focus({ preventScroll: true });
  }

  choices(first, second) {
    const { searches } = this;
    const parts = [];
    if (this.study)
      parts.push(
        el("button", {
          type: "button",
          text: "‹ study",
          title: "back to the study (b)",
          on: { click: () => this.back() },
        }),
      );
    const alike = searches.filter((entry) => entry[2] === first[2]);
    const all = this.study ? alike : searches;
    const text = (entry) => `${line(entry[1], 90)}${entry[3] ? "" : " (no tree)"}`;
    const choice = el(
      "select",
      { "aria-label": "Search" },
      ...all.map((entry) => option(entry[0], text(entry), entry === first)),
    );
    choice.addEventListener("change", () => this.openSearch(choice.value, second?.[0] ?? ""));
    parts.push(choice);
    const others = alike.filter((entry) => entry !== first);
    if (others.length) {
      const other = el(
        "select",
        { "aria-label": "Compare with" },
        option("", "compare with …"),
        ...others.map((entry) => option(entry[0], text(entry), entry === second)),
      );
      other.addEventListener("change", () => this.openSearch(first[0], other.value));
      parts.push(other);
    }
    this.together = null;
    if (second) {
      this.together = el("input", { type: "checkbox" });
      const name = labelled("sliders at equal tokens", this.together);
      name.title = "moving one slider moves the other to the time at which as many policy tokens were generated";
      parts.push(name);
    }
    return parts;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.dialog.open) return;
    if (event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
    const onButton = event.target.matches("button, summary, a") && ["Enter", " "].includes(event.key);
    const onSlider = event.target.matches("input[type=range]") && /^(Arrow|Page|Home|End)/.test(event.key);
    if (onButton || onSlider || event.defaultPrevented) return;
    const keys = {
      t: () => this.theme(),
      "?": () => this.dialog.showModal(),
      b: () => this.study && this.panes.length && this.back(),
    };
    if (keys[event.key]) keys[event.key]();
    else if (!this.active?.key(event)) return;
    event.preventDefault();
  }
}

// A search of the block of packed ones: base64 of zlib of JSON.
async function unpack([start, length]) {
  const packed = document.getElementById("searches").textContent.slice(start, start + length);
  const bytes = Uint8Array.from(atob(packed), (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

function failed(error) {
  const text = error?.message ?? String(error);
  document.body.prepend(
    el("p", { class: "note bad", role: "alert", text: `The page has failed and may lack something: ${line(text)}` }),
  );
}

window.addEventListener("error", (event) => {
  if (!/ResizeObserver/.test(event.message)) failed(event.error ?? event.message);
});
window.addEventListener("unhandledrejection", (event) => failed(event.reason));
new Page(JSON.parse(document.getElementById("data").textContent));
