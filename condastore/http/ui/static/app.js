// What every page has.

import { $, $$, ask, prefix, SIGNED_OUT, trouble } from "./dom.js";
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

/** Says why a form had better not be sent now; nothing if it can be. */
async function obstacle() {
  const response = await ask(`${prefix}/api/v1/permission/`);
  const { authenticated } = (await response.json()).data;
  return document.body.dataset.signedIn === "yes" && !authenticated ? SIGNED_OUT : null;
}

/** Sends forms once, and not where what is in them would be lost with the session or the daemon. */
function careful() {
  document.addEventListener("submit", async (event) => {
    const { target: form, submitter } = event;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.checked === "yes") {
      form.dataset.checked = "and sent";
      return;
    }
    event.preventDefault();
    if (form.dataset.sent) return;
    form.dataset.sent = "yes";
    try {
      const reason = await obstacle();
      if (reason) throw new Error(reason);
      form.dataset.checked = "yes";
      form.requestSubmit(submitter);
    } catch (error) {
      delete form.dataset.sent;
      trouble(error.message);
      scrollTo(0, 0);
    }
  });
  addEventListener("pageshow", () => {
    for (const form of $$("form[data-sent]")) {
      delete form.dataset.sent;
      delete form.dataset.checked;
    }
  });
}

copyButtons();
filters();
careful();
keys();
instantSearch();
keepLive();
keepTimes();
onSwap(copyButtons);
onSwap(filters);

// What is shown once is not made a second time when the page is loaded again.
if ($("[data-once]")) history.replaceState(null, "", location.href);

// A draft that was built is not needed any more.
if (location.pathname.includes("/build/") && sessionStorage.getItem("submitted")) {
  sessionStorage.removeItem(sessionStorage.getItem("submitted"));
  sessionStorage.removeItem("submitted");
}
