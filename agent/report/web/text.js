// Words and numbers as a person reads them.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

// A text in which every character can be seen: what controls a terminal or the direction of a text is its escape.
export function visible(text) {
  return text.replaceAll("\r\n", "\n").replace(HIDDEN, (each) => {
    if (each === "\n" || each === "\t") return each;
    const code = each.codePointAt(0);
    if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
    return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
  });
}

// The same on one line, cut where it is long.
export function line(text, most = 600) {
  const one = visible(text.slice(0, most + 1).replace(/\s+/gu, " "));
  return text.length > most ? `${one.slice(0, most)}…` : one;
}

export function quantity(value, unit = "") {
  if (value === null || value === undefined) return "–";
  for (const [size, prefix] of [
    [1e15, "P"],
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(value) >= size) return `${significant(value / size)} ${prefix}${unit}`;
  }
  return `${Number.isInteger(value) ? value : significant(value)}${unit ? ` ${unit}` : ""}`;
}

function significant(value) {
  return Number(value.toPrecision(3)).toString();
}

export function whole(value) {
  return value.toLocaleString("en");
}

export function percent(value, digits = 1) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`;
}

// A difference in percentage points, with its sign.
export function points(value) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(100 * value).toFixed(1);
  return text === "0.0" ? "0.0" : `${value < 0 ? "−" : "+"}${text}`;
}

export function score(value) {
  return value === null || value === undefined ? "–" : value.toFixed(2);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// A strategy with its knobs, as the command line shows it: beam (branch 4, width 16).
export function call(name, knobs) {
  const given = Object.entries(knobs ?? {}).filter(([key, value]) => key !== "name" && value !== false);
  const words = given.map(([key, value]) => (value === true ? key : `${key} ${value}`));
  return line(words.length ? `${name} (${words.join(", ")})` : name);
}
