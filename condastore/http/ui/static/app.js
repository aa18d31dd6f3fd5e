// What every page has.

import { $, $$ } from "./dom.js";
import { keys } from "./keys.js";
import { instantSearch, keepLive, onSwap } from "./regions.js";
import { keepTimes } from "./times.js";

/** Copies the text beside a button. */
function copyButtons(root = document) {
  for (const button of $$("[data-copy]", root)) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = $("code", button.parentElement);
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
}

/** Shows the rows of a table whose heading contains what is typed. */
function filters(root = document) {
  for (const input of $$("input[data-filter]", root)) {
    const rows = $$(`#${input.dataset.filter} tbody tr`).map((row) => [row, row.cells[0].textContent.toLowerCase()]);
    const empty = $(`[data-filter-empty="${input.dataset.filter}"]`);
    input.hidden = false;
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      for (const [row, text] of rows) {
        row.hidden = !text.includes(wanted);
        if (!row.hidden) shown += 1;
      }
      if (empty) empty.hidden = shown > 0;
    });
  }
}

/** Keeps a form from being sent twice. */
function once() {
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post" || event.defaultPrevented) return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => { for (const form of $$("form[data-sent]")) delete form.dataset.sent; });
}

copyButtons();
filters();
once();
keys();
instantSearch();
keepLive();
keepTimes();
onSwap(copyButtons);
onSwap(filters);

// A draft that was built is not needed any more.
if (location.pathname.includes("/build/") && sessionStorage.getItem("submitted")) {
  sessionStorage.removeItem(sessionStorage.getItem("submitted"));
  sessionStorage.removeItem("submitted");
}
