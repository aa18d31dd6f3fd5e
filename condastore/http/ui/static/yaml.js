// Reads and changes the lists of an environment.yaml line by line, so that comments stay where they are.

const KEY = /^([A-Za-z_]+):\s*(.*?)\s*$/;
const ITEM = /^(\s*)-\s+(.*?)\s*$/;
const bare = (text) => text.replace(/\s+#.*$/, "").trim();

function unquoted(text) {
  const value = bare(text);
  const quote = value[0];
  return (quote === "'" || quote === '"') && value.endsWith(quote) && value.length > 1 ? value.slice(1, -1) : value;
}

const quoted = (text) => (/^[A-Za-z0-9]/.test(text) && !/: |\s#|:$/.test(text) ? text : `'${text.replaceAll("'", "''")}'`);

/** A text, and where in it the lists are. */
export class Environment {
  constructor(text) {
    this.lines = text.split("\n");
    this.keys = new Map();
    this.lists = { channels: [], dependencies: [], pip: [] };
    this.isPlain = true;
    this.read();
  }

  read() {
    let key = null;
    let pipIndent = null;
    this.lines.forEach((line, index) => {
      if (/^\s*(#.*)?$/.test(line)) return;
      const found = KEY.exec(line);
      if (found && !/^\s/.test(line)) {
        key = found[1];
        pipIndent = null;
        this.keys.set(key, index);
        const value = bare(found[2]);
        if (key in this.lists && value && value !== "[]") this.isPlain = false;
        return;
      }
      const item = ITEM.exec(line);
      if (key !== "channels" && key !== "dependencies") return;
      if (!item) {
        this.isPlain = false;
        return;
      }
      const [, indent, text] = item;
      if (pipIndent !== null && indent.length <= pipIndent) pipIndent = null;
      if (key === "dependencies" && bare(text) === "pip:") {
        pipIndent = indent.length;
        this.pipLine = index;
        return;
      }
      if (/^[[{&*!|>]/.test(text)) this.isPlain = false;
      this.lists[pipIndent === null ? key : "pip"].push({ line: index, indent, text: unquoted(text) });
    });
    if (/^\s*[{[]/.test(this.lines.join("\n"))) this.isPlain = false;
  }

  get text() { return this.lines.join("\n"); }

  get name() {
    const line = this.keys.get("name");
    return line === undefined ? "" : unquoted(KEY.exec(this.lines[line])[2]);
  }

  set name(name) {
    const line = this.keys.get("name");
    if (line === undefined) this.lines.unshift(`name: ${quoted(name)}`);
    else this.lines[line] = `name: ${quoted(name)}`;
  }

  add(list, text) {
    const entries = this.lists[list];
    const last = entries.at(-1);
    if (last) {
      this.lines.splice(last.line + 1, 0, `${last.indent}- ${quoted(text)}`);
    } else if (list === "pip") {
      const deps = this.lists.dependencies;
      const indent = deps.at(-1)?.indent ?? "  ";
      if (this.pipLine === undefined) {
        if (!deps.some((entry) => /^pip\b/.test(entry.text))) this.insertUnder("dependencies", `${indent}- pip`);
        this.reread();
        this.insertUnder("dependencies", `${indent}- pip:`, `${indent}    - ${quoted(text)}`);
      } else this.lines.splice(this.pipLine + 1, 0, `${indent}    - ${quoted(text)}`);
    } else this.insertUnder(list, `  - ${quoted(text)}`);
  }

  insertUnder(list, ...lines) {
    const last = this.lists[list].at(-1);
    let at = last ? last.line + 1 : this.keys.get(list);
    if (at === undefined) {
      while (this.lines.at(-1) === "") this.lines.pop();
      this.lines.push(`${list}:`, ...lines, "");
      return;
    }
    if (!last) {
      this.lines[at] = `${list}:`;
      at += 1;
    }
    this.lines.splice(at, 0, ...lines);
  }

  reread() {
    this.keys.clear();
    this.lists = { channels: [], dependencies: [], pip: [] };
    this.pipLine = undefined;
    this.read();
  }

  remove(list, entry) {
    this.lines.splice(entry.line, 1);
    if (list === "pip" && this.lists.pip.length === 1) this.lines.splice(this.pipLine, 1);
  }

  replace(entry, text) { this.lines[entry.line] = `${entry.indent}- ${quoted(text)}`; }
}

/** Returns the name of a dependency, and what it says of the version. */
export function split(dependency) {
  const found = /^(?:.*::)?([A-Za-z0-9_.-]+)\s*(.*)$/.exec(dependency);
  return found ? { name: found[1], version: found[2], whole: dependency } : { name: dependency, version: "", whole: dependency };
}
