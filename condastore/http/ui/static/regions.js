// Parts of a page that are fetched anew and swapped: search as you type, and what changes by itself.

import { $, $$, ask, trouble } from "./dom.js";
import { showTimes } from "./times.js";

const EVERY_MS = 3000;
const listeners = [];

/** What the daemon last sent of each region; scripts have changed the page since. */
const sent = new Map($$("[data-region]").map((region) => [region.dataset.region, region.outerHTML]));

/** Calls `work` with each region that was swapped. */
export function onSwap(work) {
  listeners.push(work);
}

/** Fetches a page and swaps the regions that both have. */
export async function refresh(url, { signal } = {}) {
  const response = await ask(url, { signal, headers: { Accept: "text/html" } });
  const fetched = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const region of $$("[data-region]")) {
    const other = $(`[data-region="${region.dataset.region}"]`, fetched);
    // A form that is just being sent must stay in the page.
    if (!other || $("[data-log], form[data-sent]", region)) continue;
    if (other.outerHTML === sent.get(region.dataset.region)) continue;
    if (region.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) continue;
    const focused = region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    sent.set(region.dataset.region, other.outerHTML);
    showTimes(other);
    keepOpen(region, other);
    region.replaceWith(other);
    if (focused) $(`a[href="${CSS.escape(focused)}"]`, other)?.focus();
    for (const listener of listeners) listener(other);
  }
  const title = $("title", fetched);
  if (title) document.title = title.textContent;
}

/** Opens in a new region what somebody has opened in the old one. */
function keepOpen(region, other) {
  const open = new Set($$("details[open] > summary", region).map((summary) => summary.textContent));
  for (const summary of $$("details > summary", other)) if (open.has(summary.textContent)) summary.parentElement.open = true;
}

/** Looks again every few seconds as long as something on the page is under way. */
export function keepLive() {
  let running = false;
  let failed = false;
  setInterval(async () => {
    if (running || document.hidden || !$("[data-live]")) return;
    running = true;
    try {
      await refresh(location.href);
      if (failed) trouble(null);
      failed = false;
    } catch (error) {
      failed = true;
      trouble(error.message);
    } finally {
      running = false;
    }
  }, EVERY_MS);
}

/** Searches while somebody types; the address follows, so that it can be shared. */
export function instantSearch() {
  const form = $("form[data-instant]");
  if (!form) return;
  const input = $("input[type=search]", form);
  $("button", form).hidden = true;
  let asked = null;
  let timer;
  const search = async () => {
    const query = new URLSearchParams(new FormData(form));
    for (const [name, value] of [...query]) if (!value) query.delete(name);
    const url = query.size ? `${form.action}?${query}` : form.action;
    asked?.abort();
    asked = new AbortController();
    try {
      await refresh(url, { signal: asked.signal });
      history.replaceState(null, "", url);
      trouble(null);
    } catch (error) {
      if (error.name !== "AbortError") trouble(error.message);
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 120);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    search();
  });
}
