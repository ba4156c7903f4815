// Data enters the document here and nowhere else: as text, never as markup.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const isolated = (text, kind) => make("bdi", kind ? { class: kind } : {}, text);

// Joiners between letters belong to the script and stay; alone they would be invisible.
const INVISIBLE = /[\p{C}\p{Z}\\]/gu;
const ESCAPES = { " ": "␣", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\" };
function visible(text) {
  if (text === "") return "(empty)";
  const shown = escapedText(text);
  return /^\p{M}/u.test(shown) ? "◌" + shown : shown;
}

function escapedText(text, kept = "") {
  const joiners = /[^\u200c\u200d]/.test(text);
  const stays = (c) => kept.includes(c) || (joiners && (c === "\u200c" || c === "\u200d"));
  return text.replace(INVISIBLE, (c) => (stays(c) ? c : ESCAPES[c] || escaped(c)));
}

function escaped(character) {
  const code = character.codePointAt(0);
  if (code < 256) return "\\x" + code.toString(16).padStart(2, "0");
  return code < 65536 ? "\\u" + code.toString(16).padStart(4, "0") : "\\U" + code.toString(16).padStart(8, "0");
}

function number(value) {
  if (value === undefined) return "not read"; // at a row that the lens has no map for
  if (value === null) return "not finite";
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential().replaceAll("-", "−") : String(value).replaceAll("-", "−");
}

const rounded = (value) => Number(value.toPrecision(3));
function signed(value) {
  const shown = Math.abs(value) < 5e-4 ? 0 : rounded(value);
  return (shown > 0 ? "+" : "") + number(shown);
}

// Of a cell's width.
function briefly(value) {
  const shown = value.toFixed(Math.abs(value) < 9.995 ? 2 : 1);
  return Number(shown) === 0 ? "0" : (value > 0 ? "+" : "−") + shown.replace("-", "");
}
