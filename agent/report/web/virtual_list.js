// A list of any length: only the rows in sight are elements.
import { el } from "./dom.js";
import { whole } from "./text.js";

const AROUND = 8; // rows above and below those in sight
const PRINTED = 2000; // rows on paper

export class VirtualList {
  // `make` returns an empty row, `fill(row, number)` writes a row of the list into it.
  constructor(box, height, make, fill) {
    this.box = box;
    this.height = height;
    this.make = make;
    this.fill = fill;
    this.count = 0;
    this.pool = [];
    this.note = el("p", { class: "note printed" });
    this.space = box.appendChild(el("div", { class: "space", role: "presentation" }));
    box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(box);
  }

  show(count) {
    this.count = count;
    this.space.style.height = `${count * this.height}px`;
    this.draw();
  }

  draw() {
    if (this.printing) return;
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.height) - AROUND);
    const last = Math.min(this.count, Math.ceil((this.box.scrollTop + this.box.clientHeight) / this.height) + AROUND);
    this.place(first, last);
  }

  place(first, last) {
    while (this.pool.length < last - first) this.pool.push(this.space.appendChild(this.make()));
    this.pool.forEach((row, at) => {
      const number = first + at;
      row.hidden = number >= last;
      if (row.hidden) return;
      row.style.top = `${number * this.height}px`;
      row.number = number;
      this.fill(row, number);
    });
  }

  reveal(number) {
    const top = number * this.height;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop + this.height) this.box.scrollTop = top - Math.min(2 * this.height, clientHeight / 3);
    else if (top + 2 * this.height > scrollTop + clientHeight) {
      this.box.scrollTop = top + 3 * this.height - clientHeight;
    }
    this.draw();
  }

  page() {
    return Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
  }

  // For a printer: all rows, but for too many, until `printed`. What else is in the box is as high as `heads` rows.
  print(heads = 0) {
    const rows = Math.min(this.count, PRINTED);
    this.place(0, rows);
    this.printing = true;
    this.box.style.height = `${(rows + heads) * this.height}px`;
    if (rows < this.count) {
      this.note.textContent = `the first ${whole(rows)} of ${whole(this.count)} rows are printed`;
      this.box.after(this.note);
    }
  }

  printed() {
    this.printing = false;
    this.box.style.height = "";
    this.note.remove();
    this.draw();
  }
}
