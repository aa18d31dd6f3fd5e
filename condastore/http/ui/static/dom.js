// Small helpers that all modules share. Text only ever becomes text nodes.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Returns a new element with attributes, listeners (onclick: ...) and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const prefix = document.body.dataset.prefix;
export const base = document.body.dataset.base;

/** Says what went wrong at the top of the page; nothing takes it away. */
export function trouble(text) {
  const box = $("[data-trouble]");
  if (!box) return;
  box.textContent = text ?? "";
  box.hidden = !text;
}

export const AWAY = "The daemon does not answer. What you typed is still here; try again in a moment.";

export const SIGNED_OUT = "You are not signed in any more. Sign in in another tab, and try again here; what you typed is kept.";

/** Fetches a page or an answer. Throws an Error whose text is for people. */
export async function ask(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(AWAY);
  }
  if (response.ok) return response;
  if (response.status === 404) throw new Error("This is not here any more; somebody may have deleted it.");
  if (response.status === 401 || (response.status === 403 && document.body.dataset.signedIn === "no")) {
    throw new Error(SIGNED_OUT);
  }
  let text = "";
  try {
    const answer = await response.clone().json();
    text = answer.message ?? "";
  } catch {
    text = "";
  }
  const id = response.headers.get("X-Request-Id");
  throw new Error((text || `The daemon answered with status ${response.status}.`) + (id ? ` (request ${id})` : ""));
}

export function debounce(work, ms) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), ms);
  };
}

const UNITS = ["bytes", "kB", "MB", "GB", "TB", "PB"];
export function sizeText(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < UNITS.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes.toFixed(unit === 0 || bytes >= 99.95 ? 0 : 1)} ${UNITS[unit]}`;
}

export function durationText(seconds) {
  if (seconds < 9.95) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes === 0) return `${whole} s`;
  return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
