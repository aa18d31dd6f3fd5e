// Keyboard: `/` to search, `n` for a new environment, `e` to edit, `?` for help.

import { $, base, make } from "./dom.js";

const KEYS = [["/", "Search"], ["n", "New environment"], ["e", "Edit this environment"], ["g h", "All environments"], ["?", "This help"], ["Esc", "Leave a field or a dialog"]];

function help() {
  const rows = KEYS.flatMap(([key, text]) => [
    make("dt", {}, ...key.split(" ").flatMap((part, index) => [index ? " " : null, make("kbd", {}, part)])),
    make("dd", {}, text),
  ]);
  const dialog = make("dialog", { "aria-labelledby": "help-title" },
    make("h2", { id: "help-title" }, "Keyboard"),
    make("dl", {}, ...rows),
    make("form", { method: "dialog" }, make("button", { class: "button", autofocus: true }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

export function keys() {
  const button = $("[data-help]");
  button.hidden = false;
  button.addEventListener("click", help);
  if (location.hash === "#search") $("[data-key='/']")?.focus();
  let before = "";
  document.addEventListener("keydown", (event) => {
    const inField = event.target.closest("input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable]");
    if (event.key === "Escape" && inField) inField.blur();
    if (inField || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    const target = $(`[data-key="${CSS.escape(event.key)}"]`);
    if (event.key === "?") help();
    else if (before === "g" && event.key === "h") location.href = `${base}/`;
    else if (target?.matches("input")) target.focus();
    else if (target) target.click();
    else if (event.key === "n") location.href = `${base}/new/`;
    else if (event.key === "/") location.href = `${base}/#search`;
    before = event.key;
    if (target || "?/".includes(event.key)) event.preventDefault();
  });
}
