// Packages to choose: search as you type over the index, versions, channels and pip.

import { $, $$, ask, debounce, make, prefix } from "./dom.js";
import { Environment, split } from "./yaml.js";

const API = `${prefix}/api/v1/package/`;
const versions = new Map();

async function packages(query, signal) {
  const response = await ask(`${API}?${new URLSearchParams(query)}`, { signal });
  return (await response.json()).data;
}

/** Returns the known versions of a package, newest first as far as their text says so. */
function versionsOf(name) {
  if (!versions.has(name)) {
    const query = { search: name, exact: "true", distinct_on: "version", order: "desc", sort_by: "version", size: "100" };
    versions.set(name, packages(query).then((rows) => [...new Set(rows.map((row) => row.version))]).catch(() => []));
  }
  return versions.get(name);
}

/** Shows what the text holds, and changes the text. */
export function picker(box, text, setText) {
  const change = (work) => {
    const environment = new Environment(text());
    work(environment);
    setText(environment.text);
  };
  const has = (name) => new Environment(text()).lists.dependencies.some((entry) => split(entry.text).name.toLowerCase() === name.toLowerCase());
  const addPackage = (name) => { if (!has(name)) change((environment) => environment.add("dependencies", name)); };

  search(box, addPackage, has);
  for (const button of $$("[data-add-button]", box)) {
    const input = $(`[data-add="${button.dataset.addButton}"]`, box);
    const add = () => {
      const value = input.value.trim();
      if (value) change((environment) => environment.add(button.dataset.addButton, value));
      input.value = "";
      input.focus();
    };
    button.addEventListener("click", add);
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      add();
    });
  }
  return {
    show() {
      const environment = new Environment(text());
      const said = $("[data-picker-said]", box);
      box.classList.toggle("is-off", !environment.isPlain);
      said.textContent = environment.isPlain ? "" : "The text is written in a way that only you can change; edit it on the text's side.";
      for (const input of $$("input, button", box)) input.disabled = !environment.isPlain;
      for (const list of $$("[data-picked]", box)) showList(list, list.dataset.picked, environment, change);
    },
  };
}

function showList(list, kind, environment, change) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.of : null;
  const entries = environment.isPlain ? environment.lists[kind] : [];
  list.replaceChildren(...entries.map((entry, index) => row(kind, entry, index, change)));
  list.hidden = entries.length === 0;
  if (focused) $(`[data-of="${CSS.escape(focused)}"]`, list)?.focus();
}

function row(kind, entry, index, change) {
  const { name, version } = kind === "dependencies" ? split(entry.text) : { name: entry.text, version: null };
  const current = (environment) => environment.lists[kind][index];
  const remove = make("button", {
    type: "button", class: "button small ghost", "aria-label": `Remove ${entry.text}`, title: "Remove",
    onclick: () => change((environment) => environment.remove(kind, current(environment))),
  }, "✕");
  if (version === null) return make("li", {}, make("span", { class: "picked-name" }, entry.text), remove);
  const id = `versions-${name}`;
  const known = make("datalist", { id });
  const input = make("input", {
    type: "text", value: version, list: id, placeholder: "any version", "data-of": name, spellcheck: "false", autocomplete: "off",
    "aria-label": `Version of ${name}`,
    onfocus: async () => known.replaceChildren(...(await versionsOf(name)).map((text) => make("option", { value: `=${text}` }))),
    onchange: () => change((environment) => {
      const written = current(environment);
      const value = input.value.trim();
      const before = written.text.slice(0, written.text.lastIndexOf(name, written.text.length - version.length) + name.length);
      environment.replace(written, before + (/^[0-9]/.test(value) ? `=${value}` : value));
    }),
  });
  return make("li", {}, make("span", { class: "picked-name" }, name), input, known, remove);
}

/** The search field with its list (the combobox pattern of the ARIA practices). */
function search(box, add, has) {
  const input = $("[data-picker-search]", box);
  const list = $("#picker-list", box);
  const said = $("[data-picker-said]", box);
  let asked = null;
  let active = -1;

  const close = () => {
    list.hidden = true;
    list.replaceChildren();
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  };
  const choose = (name) => {
    asked?.abort();
    add(name);
    input.value = "";
    close();
    input.focus();
    said.textContent = `${name} is added.`;
  };
  const move = (to) => {
    const options = [...list.children];
    if (!options.length) return;
    active = (to + options.length) % options.length;
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === active)));
    input.setAttribute("aria-activedescendant", options[active].id);
    options[active].scrollIntoView({ block: "nearest" });
  };
  const show = (rows) => {
    list.replaceChildren(...rows.map((found, index) => make("li", {
      id: `picker-${index}`, role: "option", "aria-selected": "false",
      onmousedown: (event) => event.preventDefault(),
      onclick: () => choose(found.name),
    },
    make("strong", {}, found.name), has(found.name) ? make("span", { class: "pill" }, "added") : null,
    make("span", { class: "muted" }, found.summary ?? found.version ?? ""))));
    list.hidden = rows.length === 0;
    input.setAttribute("aria-expanded", String(rows.length > 0));
    active = -1;
  };
  const look = debounce(async () => {
    const wanted = input.value.trim();
    asked?.abort();
    if (wanted.length < 2) {
      close();
      said.textContent = "";
      return;
    }
    asked = new AbortController();
    try {
      const rows = await packages({ search: wanted, distinct_on: "name", size: "30" }, asked.signal);
      // What begins with the text first, and the shortest of those.
      const rank = ({ name }) => (name === wanted ? -1 : name.startsWith(wanted) ? name.length : 1000 + name.length);
      rows.sort((one, other) => rank(one) - rank(other));
      show(rows);
      said.textContent = rows.length ? "" : `No package has “${wanted}” in its name. Press Enter to add it all the same.`;
    } catch (error) {
      if (error.name === "AbortError") return;
      close();
      said.textContent = "The list of packages can't be searched now. Press Enter to add what you typed.";
    }
  }, 120);
  input.addEventListener("input", look);
  input.addEventListener("blur", () => setTimeout(close, 150));
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") move(active + 1);
    else if (event.key === "ArrowUp") move(active - 1);
    else if (event.key === "Escape") close();
    else if (event.key === "Enter") {
      const wanted = active >= 0 ? $("strong", list.children[active]).textContent : input.value.trim();
      if (wanted) choose(wanted);
    } else return;
    if (event.key !== "Escape") event.preventDefault();
  });
}
