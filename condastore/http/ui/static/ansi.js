// Text with a terminal's colours becomes runs of text with classes; whatever else it says is dropped.

const ESCAPES = /\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z^_])?/g;
const MAX_RUNS = 200;
const MAX_LENGTH = 4000;

/** Returns the text without escape sequences. */
export const plain = (text) => (text.includes("\x1b") ? text.replace(ESCAPES, "") : text);

function applied(style, codes) {
  let { colour, bold, dim, italic, underlined } = style;
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index];
    if (code === 0) colour = bold = dim = italic = underlined = null;
    else if (code === 1) bold = "a-b";
    else if (code === 2) dim = "a-d";
    else if (code === 3) italic = "a-i";
    else if (code === 4) underlined = "a-u";
    else if (code === 22) bold = dim = null;
    else if (code === 23) italic = null;
    else if (code === 24) underlined = null;
    else if (code === 38 || code === 48) {
      const length = codes[index + 1] === 5 ? 2 : 4;
      if (code === 38 && length === 2 && codes[index + 2] < 16) colour = `a-${codes[index + 2] % 8}`;
      index += length;
    } else if (code === 39) colour = null;
    else if (code >= 30 && code <= 37) colour = `a-${code - 30}`;
    else if (code >= 90 && code <= 97) colour = `a-${code - 90}`;
  }
  return { colour, bold, dim, italic, underlined };
}

/** Returns [class, text] runs of one line, bounded in number and length. */
export function runs(line) {
  if (!line.includes("\x1b")) return [["", cut(line)]];
  const found = [];
  let style = {};
  let position = 0;
  let length = 0;
  const add = (text) => {
    if (!text) return;
    found.push([Object.values(style).filter(Boolean).join(" "), text]);
    length += text.length;
  };
  for (const match of line.matchAll(ESCAPES)) {
    add(line.slice(position, match.index));
    position = match.index + match[0].length;
    if (match[2] === "m") style = applied(style, (match[1] || "0").split(/[;:]/).slice(0, 32).map(Number));
    if (found.length >= MAX_RUNS || length > MAX_LENGTH) break;
  }
  add(cut(plain(line.slice(position, position + 4 * MAX_LENGTH))));
  return found;
}

const cut = (text) => (text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)} … (${text.length - MAX_LENGTH} more characters)` : text);
