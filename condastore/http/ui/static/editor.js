// The page where an environment is written: its text and its picker show the same.

import { $, $$, ask, AWAY, debounce, make, trouble } from "./dom.js";
import { picker } from "./picker.js";
import { Environment } from "./yaml.js";

const form = $("[data-editor]");
const area = $("textarea", form);
const gutter = $("[data-gutter]", form);
const list = $("[data-problems]", form);
const name = $("#name", form);
const kinds = $$("input[name=kind]", form);
const isLockfile = () => form.elements.kind.value === "lockfile";
const MAX_NUMBERED = 20_000;

let wrong = new Map();

function numbers() {
  const count = Math.min(area.value.split("\n").length, MAX_NUMBERED);
  if (gutter.childElementCount !== count) {
    gutter.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const number = document.createElement("span");
      number.textContent = String(index + 1);
      return number;
    }));
  }
  for (const number of $$(".is-wrong", gutter)) number.className = "";
  for (const [line, message] of wrong) {
    const number = gutter.children[line - 1];
    if (number) {
      number.className = "is-wrong";
      number.title = message;
    }
  }
  gutter.scrollTop = area.scrollTop;
}

function goTo(line) {
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
}

function lineLink(line) {
  return make("button", { type: "button", class: "link", onclick: () => goTo(line) }, `Line ${line}`);
}

function showProblems(problems) {
  wrong = new Map(problems.filter(({ line }) => line).map(({ line, message }) => [line, message]));
  // The daemon may have found more, and sooner.
  for (const item of $$("[data-region=problems] li[data-line]")) wrong.set(Number(item.dataset.line), item.textContent);
  list.replaceChildren(...problems.map(({ line, message }) => {
    const item = document.createElement("li");
    if (line) item.append(lineLink(line), ": ");
    item.append(message);
    return item;
  }));
  numbers();
}

const body = (action) => {
  const data = new URLSearchParams(new FormData(form));
  data.set("action", action);
  return data;
};

let checking = null;
const check = debounce(async () => {
  checking?.abort();
  checking = new AbortController();
  if (isLockfile() || !area.value.trim()) {
    showProblems([]);
    return;
  }
  try {
    const response = await ask(location.href, { method: "POST", body: body("check"), signal: checking.signal });
    showProblems((await response.json()).problems);
    trouble(null);
  } catch (error) {
    if (error.name !== "AbortError") trouble(error.message);
  }
}, 400);

// What is typed stays until it is built, whatever happens to the session or the daemon.
const KEY = `draft ${location.pathname}${location.search}`;
const served = area.defaultValue;
const keep = debounce(() => {
  try {
    if (area.value === served) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, JSON.stringify({ served, text: area.value, lockfile: isLockfile() }));
  } catch { /* There is no room, or none is given. */ }
}, 300);

function restore() {
  let draft = null;
  try {
    draft = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  } catch { /* The same. */ }
  if (!draft || draft.served !== served || draft.text === area.value) return;
  area.value = draft.text;
  kinds.find((kind) => (kind.value === "lockfile") === draft.lockfile).checked = true;
  const box = $("[data-draft]");
  box.hidden = false;
  $("[data-draft-discard]", box).addEventListener("click", () => {
    area.value = served;
    sessionStorage.removeItem(KEY);
    box.hidden = true;
    changed();
  });
}

let pick = null;
function changed({ fromPicker = false } = {}) {
  numbers();
  keep();
  check();
  if (!fromPicker) pick?.show();
  if (name && !isLockfile() && document.activeElement !== name) name.value = new Environment(area.value).name;
}

function setText(text) {
  area.value = text;
  forget();
  changed({ fromPicker: true });
  pick.show();
}

function kindChanged() {
  $("[data-picker]", form).hidden = isLockfile();
  $("[data-preview]", form).hidden = isLockfile();
  changed();
}

/** Whether a text is a lockfile: of conda-lock, of pixi, or a list of URLs. */
function looksLocked(text) {
  if (/^@EXPLICIT\s*$/m.test(text)) return true;
  return /(^|[{,])\s*"?(version|metadata)"?\s*:/m.test(text) && /(^|[{,])\s*"?packages?"?\s*:/m.test(text);
}

function openFile(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  file.text().then((text) => {
    area.value = text;
    kinds.find((kind) => (kind.value === "lockfile") === looksLocked(text)).checked = true;
    forget();
    kindChanged();
  });
}

/** Marks what the daemon found wrong with the text at its lines. */
function showFound() {
  for (const item of $$("[data-region=problems] li[data-line]")) {
    const line = Number(item.dataset.line);
    wrong.set(line, item.textContent);
    const place = $("strong", item);
    if (place) place.replaceWith(lineLink(line), ": ");
  }
  numbers();
}

/** Takes away what was said of another text. */
function forget() {
  for (const region of ["problems", "preview"]) $(`[data-region=${region}]`).replaceChildren();
}

let asking = false;
async function preview(event) {
  event.preventDefault();
  if (asking) return;
  asking = true;
  const busy = $("[data-busy]", form);
  const button = event.currentTarget;
  button.disabled = true;
  busy.textContent = "Solving…";
  try {
    const response = await fetch(location.href, { method: "POST", body: body("preview"), credentials: "same-origin" }).catch(() => {
      throw new Error(AWAY);
    });
    const fetched = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const region of ["problems", "preview"]) {
      const other = $(`[data-region=${region}]`, fetched);
      if (other) $(`[data-region=${region}]`).replaceWith(other);
    }
    showFound();
    ($("[data-region=problems] .card") ?? $("[data-region=preview]")).scrollIntoView({ block: "nearest" });
    trouble(null);
  } catch (error) {
    trouble(error.message);
  } finally {
    busy.textContent = "";
    button.disabled = false;
    asking = false;
  }
}

for (const element of $$("[data-without-script]", form)) element.hidden = true;
$("[data-upload]", form).hidden = false;
$("[data-upload] input", form).addEventListener("change", openFile);
$("[data-preview]", form).addEventListener("click", preview);
area.addEventListener("input", () => {
  forget();
  changed();
});
area.addEventListener("scroll", () => { gutter.scrollTop = area.scrollTop; });
area.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") $("button[value=build]", form).click();
});
name?.addEventListener("input", () => {
  if (isLockfile()) return;
  const environment = new Environment(area.value);
  environment.name = name.value;
  area.value = environment.text;
  forget();
  changed({ fromPicker: true });
});
for (const kind of kinds) kind.addEventListener("change", kindChanged);
// Before it is really sent, app.js looks whether it can be.
form.addEventListener("submit", () => { if (form.dataset.checked) sessionStorage.setItem("submitted", KEY); });
restore();
pick = picker($("[data-picker]", form), () => area.value, setText);
kindChanged();
showFound();
