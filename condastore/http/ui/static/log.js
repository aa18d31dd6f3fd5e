// A build's log as it is written. The page holds a window of lines, whatever the log's length.

import { plain, runs } from "./ansi.js";
import { $, debounce, durationText, make, prefix, sizeText, trouble } from "./dom.js";
import { refresh } from "./regions.js";

const ROW = 20;
const MARGIN = 30;
const MAX_LINES = 100_000;
const MAX_CHARACTERS = 16_000_000;
const WHOLE_BYTES = 4_000_000;
const TAIL_BYTES = 2_000_000;
const WAITS_MS = [500, 1000, 2000, 4000, 8000];
const ERROR = /(?:^|[^\w-])(?:error|errors|failed|failure|fatal|traceback|exception|unsatisfiable|conflicts?|could not|cannot solve)(?![\w-])/i;

/** The lines that are kept, the newest ones; each has a number that never changes. */
class Lines {
  constructor(skipsFirst) {
    this.texts = [];
    this.first = 0;
    this.characters = 0;
    this.rest = "";
    this.skips = skipsFirst;
  }

  get end() { return this.first + this.texts.length; }

  add(text) {
    const pieces = (this.rest + text).split("\n");
    this.rest = pieces.pop();
    if (this.skips && pieces.length) {
      pieces.shift();
      this.skips = false;
    }
    for (const piece of pieces) this.push(piece);
    // A line without an end must not grow for ever.
    if (this.rest.length > MAX_CHARACTERS / 16) {
      this.push(this.rest);
      this.rest = "";
    }
    this.forget();
  }

  push(text) {
    this.texts.push(text);
    this.characters += text.length;
  }

  finish() {
    if (this.rest) this.push(this.rest);
    this.rest = "";
  }

  forget() {
    if (this.texts.length <= MAX_LINES && this.characters <= MAX_CHARACTERS) return;
    const kept = this.texts.length - Math.max(Math.ceil(this.texts.length / 10), this.texts.length - MAX_LINES);
    const gone = this.texts.splice(0, this.texts.length - kept);
    for (const text of gone) this.characters -= text.length;
    this.first += gone.length;
  }

  at(number) { return this.texts[number - this.first]; }
}

/** What is seen of the lines: as many rows as fit, wherever one has scrolled to. */
class Window {
  constructor(lines, isNumbered) {
    this.lines = lines;
    this.isNumbered = isNumbered;
    this.space = make("div", {});
    this.rows = make("div", { class: "log-rows" });
    this.element = make("div", { class: "log-window", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" }, this.space, this.rows);
    this.follows = true;
    this.marked = { numbers: new Set(), current: -1 };
    this.waits = false;
    this.element.addEventListener("scroll", () => this.scrolled());
    new ResizeObserver(() => this.later()).observe(this.element);
  }

  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    const atEnd = scrollTop + clientHeight >= scrollHeight - ROW;
    if (atEnd !== this.follows) {
      this.follows = atEnd;
      this.onfollow?.(atEnd);
    }
    this.later();
  }

  later() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      this.draw();
    });
  }

  draw() {
    const count = this.lines.texts.length;
    this.space.style.height = `${count * ROW}px`;
    this.element.style.height = `${Math.max(count, 6) * ROW + 20}px`;
    if (this.follows) this.element.scrollTop = count * ROW;
    const top = Math.floor(this.element.scrollTop / ROW);
    const from = Math.max(top - MARGIN, 0);
    const to = Math.min(top + Math.ceil(this.element.clientHeight / ROW) + MARGIN, count);
    const rows = [];
    for (let index = from; index < to; index += 1) rows.push(this.row(this.lines.first + index));
    this.rows.style.transform = `translateY(${from * ROW}px)`;
    this.rows.replaceChildren(...rows);
  }

  row(number) {
    const text = this.lines.at(number);
    const kinds = ["log-line"];
    if (this.marked.current === number) kinds.push("is-found");
    else if (ERROR.test(plain(text.slice(0, 500)))) kinds.push("is-error");
    const row = make("div", { class: kinds.join(" ") });
    if (this.isNumbered) row.append(make("span", { class: "n", "aria-hidden": "true" }, String(number + 1)));
    const line = make("span", { class: "text" });
    for (const [style, run] of runs(text)) line.append(style ? make("span", { class: style }, run) : run);
    row.append(line);
    return row;
  }

  show(number) {
    this.follows = false;
    this.onfollow?.(false);
    this.marked.current = number;
    this.element.scrollTop = Math.max((number - this.lines.first) * ROW - this.element.clientHeight / 2, 0);
    this.later();
  }
}

/** The phases of a running build, with their times and the progress of the current one. */
class Phases {
  constructor(started) {
    this.started = started;
    this.current = null;
    this.after = null;
    this.timer = setInterval(() => this.tick(), 1000);
  }

  item(phase) { return $(`[data-phases] [data-phase="${CSS.escape(phase)}"]`); }

  begin(event) {
    const done = this.current && this.item(this.current);
    if (done) {
      done.className = "is-done";
      $("progress", done).hidden = true;
      if (this.after !== null && event.after_s !== undefined) $(".phase-time", done).textContent = durationText(event.after_s - this.after);
    }
    this.current = event.phase;
    this.after = event.after_s ?? null;
    const item = this.item(event.phase);
    if (item) item.className = "is-now";
    this.tick();
  }

  progress(event) {
    const item = this.item(event.phase);
    if (!item || event.phase !== this.current) return;
    const bar = $("progress", item);
    const bytes = event.bytes_total > 0;
    bar.max = Math.max(bytes ? event.bytes_total : event.total, 1);
    bar.value = bytes ? event.bytes : event.done;
    // What comes after the last one takes as long as it takes.
    bar.hidden = event.total === 0 || (event.done >= event.total && !(bytes && event.bytes < event.bytes_total));
    if (bar.hidden) {
      this.tick();
      return;
    }
    const left = event.eta_s === null || event.eta_s === undefined ? "" : `, ${durationText(event.eta_s)} left`;
    const said = (bytes ? `${sizeText(event.bytes)} of ${sizeText(event.bytes_total)}` : `${event.done} of ${event.total}`) + left;
    $(".phase-time", item).textContent = said;
  }

  tick() {
    const item = this.current && this.item(this.current);
    if (!item || this.after === null || !$("progress", item).hidden) return;
    $(".phase-time", item).textContent = durationText((Date.now() - this.started) / 1000 - this.after);
  }

  end() { clearInterval(this.timer); }
}

/** The connection, which is made again from where it broke. */
class Tail {
  constructor(build, offset, take, tell) {
    this.address = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${prefix}/api/v1/build/${build}/logs/ws`;
    this.offset = offset;
    this.take = take;
    this.tell = tell;
    this.failures = 0;
    this.isOver = false;
    this.encoder = new TextEncoder();
  }

  connect() {
    const socket = new WebSocket(`${this.address}?offset=${this.offset}`);
    socket.onmessage = (message) => {
      if (this.failures) this.tell("back");
      this.failures = 0;
      const frame = JSON.parse(message.data);
      if (frame.text !== undefined) this.offset = frame.offset + this.encoder.encode(frame.text).length;
      if (frame.error !== undefined || frame.event === "status") this.isOver = true;
      this.take(frame);
    };
    socket.onopen = () => this.tell("open");
    socket.onclose = () => {
      if (this.isOver) return;
      const wait = WAITS_MS[Math.min(this.failures, WAITS_MS.length - 1)];
      this.failures += 1;
      this.tell("lost", wait);
      setTimeout(() => this.connect(), wait);
    };
  }
}

function show(box) {
  const size = Number(box.dataset.size);
  const offset = size > WHOLE_BYTES ? size - TAIL_BYTES : 0;
  const lines = new Lines(offset > 0);
  const view = new Window(lines, offset === 0);
  const started = box.dataset.started ? Date.parse(box.dataset.started) : Date.now();
  const phases = new Phases(started);
  const state = $("[data-log-state]", box);
  const follow = $("[data-log-follow]", box);
  const bar = $("[data-log-bar]", box);
  let status = box.dataset.status;
  let isShown = false;

  const appear = () => {
    if (isShown) return;
    isShown = true;
    for (const element of box.querySelectorAll("[data-log-plain]")) element.remove();
    if (offset > 0) box.append(make("p", { class: "muted" }, `The last ${sizeText(TAIL_BYTES)} of ${sizeText(size)}.`));
    box.append(view.element);
    bar.hidden = false;
  };
  const take = (frame) => {
    if (frame.text !== undefined) {
      appear();
      lines.add(frame.text);
      view.later();
    } else if (frame.event === "phase") {
      phases.begin(frame);
      if (status === "QUEUED") {
        status = "BUILDING";
        refresh(location.href).then(() => phases.begin(frame)).catch(() => {});
      }
    } else if (frame.event === "progress") phases.progress(frame);
    else if (frame.event === "status") ended(frame.status);
    else if (frame.error !== undefined) {
      state.textContent = "";
      trouble(`The log can't be shown: ${frame.error}. Reload the page; you may have to sign in again.`);
    }
  };
  const ended = (last) => {
    phases.end();
    lines.finish();
    view.later();
    state.textContent = "";
    trouble(null);
    if (box.dataset.over === "no") {
      // That it is queued is not news any more.
      $("[data-notice]").hidden = true;
      refresh(location.href).catch((error) => trouble(error.message));
    }
    box.dataset.over = "yes";
    box.dataset.status = last;
  };
  const tell = (what, wait) => {
    if (what === "lost") {
      bar.hidden = false;
      state.textContent = `The connection is lost; trying again in ${durationText(wait / 1000)}`;
    } else state.textContent = box.dataset.over === "no" ? "Live" : "";
  };

  view.onfollow = (follows) => { follow.checked = follows; };
  follow.addEventListener("change", () => {
    view.follows = follow.checked;
    view.later();
  });
  finding(box, lines, view);
  new Tail(box.dataset.build, offset, take, tell).connect();
}

/** Search, and the jump to errors. */
function finding(box, lines, view) {
  const input = $("[data-log-search]", box);
  const said = $("[data-log-found]", box);
  const find = (test, step, from) => {
    const count = lines.texts.length;
    for (let distance = 1; distance <= count; distance += 1) {
      const index = (((from - lines.first + step * distance) % count) + count) % count;
      if (test(plain(lines.texts[index]))) return lines.first + index;
    }
    return -1;
  };
  const search = (step) => {
    const wanted = input.value.toLowerCase();
    if (!wanted) {
      said.textContent = "";
      view.marked.current = -1;
      view.later();
      return;
    }
    const test = (text) => text.toLowerCase().includes(wanted);
    const count = lines.texts.reduce((sum, text) => sum + (test(plain(text)) ? 1 : 0), 0);
    said.textContent = count === 1 ? "1 line" : `${count.toLocaleString()} lines`;
    if (!count) return;
    const from = view.marked.current < 0 ? lines.first - (step > 0 ? 1 : 0) : view.marked.current;
    view.show(find(test, step, from));
  };
  input.addEventListener("input", debounce(() => {
    view.marked.current = -1;
    search(1);
  }, 150));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") search(event.shiftKey ? -1 : 1);
  });
  $("[data-log-next]", box).addEventListener("click", () => search(1));
  $("[data-log-previous]", box).addEventListener("click", () => search(-1));
  $("[data-log-error]", box).addEventListener("click", () => {
    const number = find((text) => ERROR.test(text.slice(0, 500)), 1, view.marked.current < 0 ? lines.first - 1 : view.marked.current);
    said.textContent = number < 0 ? "No line looks like an error" : "";
    if (number >= 0) view.show(number);
  });
}

const box = $("[data-log]");
if (box) show(box);
