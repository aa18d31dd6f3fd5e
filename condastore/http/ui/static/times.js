// Times in the viewer's zone, and how long ago they were.

import { $$ } from "./dom.js";

const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [["second", 1], ["minute", 60], ["hour", 3600], ["day", 86400]];

function relative(moment) {
  const seconds = (moment - Date.now()) / 1000;
  const age = Math.abs(seconds);
  if (age < 10) return "just now";
  if (age >= 7 * 86400) return DAY.format(moment);
  const [unit, length] = STEPS.findLast(([, step]) => age >= step);
  return RELATIVE.format(Math.trunc(seconds / length), unit);
}

export function showTimes(root = document) {
  for (const element of $$("time[datetime]", root)) {
    const moment = new Date(element.getAttribute("datetime"));
    if (Number.isNaN(moment.getTime())) continue;
    const text = relative(moment);
    if (element.textContent !== text) element.textContent = text;
    element.title = EXACT.format(moment);
  }
}

export function keepTimes() {
  showTimes();
  setInterval(showTimes, 30_000);
}
