// Elements of the page. Texts of models, files and problems reach the page through `textContent` alone.

export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  fill(made, given);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function svg(tag, given = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(made, given);
  made.append(...children);
  return made;
}

function fill(made, given) {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
    else if (name === "var") for (const [key, each] of Object.entries(value)) made.style.setProperty(key, each);
    else made.setAttribute(name, value === true ? "" : value);
  }
}

export function clear(element) {
  element.replaceChildren();
  return element;
}

export function option(value, text, selected = false) {
  return el("option", { value, text, selected });
}

// A control with its name before it.
export function labelled(text, control) {
  return el("label", { class: "labelled" }, el("span", { text }), control);
}

export function toast(text) {
  const box = document.getElementById("toast") ?? document.body.appendChild(el("div", { id: "toast", role: "status" }));
  box.textContent = text;
  box.classList.add("shown");
  clearTimeout(box.timer);
  box.timer = setTimeout(() => box.classList.remove("shown"), 2500);
}

// Puts a text on the clipboard; where a browser refuses (a frame of a notebook), by way of a selection.
export async function copy(text, what) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(el("textarea", { class: "offscreen", "aria-hidden": "true" }));
    area.value = text;
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  toast(done ? `${what}: ${text.length.toLocaleString("en")} characters copied` : "the browser does not allow to copy");
}
