// The view as the fragment of the address, as a command, and what the page tells its reader.

const NO_LENS = "none";
const THEMES = ["system", "light", "dark"];
const MEASURES = ["rank", "p"];
const PAUSE_MS = 200; // browsers refuse an address that changes too often

function tell(text) {
  at("said").textContent = text;
}

function fragment() {
  const view = new URLSearchParams({ prompt: sources[state.index].dataset.prompt, lens: state.lens });
  if (state.other !== null) view.set("with", state.other);
  view.set("colour", state.quantity);
  view.set("row", state.row);
  view.set("pos", state.pos);
  if (state.pinned) view.set("pinned", "yes");
  if (state.chosen) view.set("tokens", state.tokens.join("."));
  if (state.by !== "rank") view.set("by", state.by);
  if (state.theme !== "system") view.set("theme", state.theme);
  return "#" + view;
}

let written = "";
let pause = null;
function noteView() {
  pause ??= setTimeout(writeView, PAUSE_MS);
}

function writeView() {
  clearTimeout(pause);
  pause = null;
  written = fragment();
  history.replaceState(null, "", written);
}

// A fragment is foreign: what it names and the page does not have is passed over.
function readView() {
  if (location.hash === written || location.hash.length < 2) return false;
  const view = new URLSearchParams(location.hash.slice(1));
  const known = (name, among, otherwise) => (among.includes(view.get(name)) ? view.get(name) : otherwise);
  const whole = (name, most, otherwise) => (/^\d{1,6}$/.test(view.get(name)) && Number(view.get(name)) <= most ? Number(view.get(name)) : otherwise);
  const wanted = sources.findIndex((source) => source.dataset.prompt === view.get("prompt"));
  const lens = known("lens", about.lenses, state.lens);
  const chosen = view.has("tokens");
  const tokens = chosen ? view.get("tokens").split(".").filter((id) => /^\d{1,9}$/.test(id)).map(Number) : [];
  Object.assign(state, {
    lens, other: known("with", about.lenses.filter((name) => name !== lens), null), quantity: known("colour", Object.keys(QUANTITIES), state.quantity),
    by: known("by", MEASURES, "rank"), theme: known("theme", THEMES, "system"), chosen, tokens: [...new Set(tokens)].slice(0, MAX_FOLLOWED),
  });
  chooseTheme(state.theme);
  if (wanted >= 0 && at("prompt").value !== String(wanted)) {
    at("filter").value = "";
    listPrompts("");
    at("prompt").selectedIndex = wanted;
  }
  pressAll();
  openPrompt(Number(at("prompt").value));
  state.pinned = view.get("pinned") === "yes";
  show(whole("row", about.num_blocks, state.row), whole("pos", width() - 1, state.pos));
  for (const grid of shownGrids()) carryTab(grid, grid.cells[placeInGrid(state.row, state.pos)]);
  cellAt(state.row, state.pos).scrollIntoView({ block: "nearest", inline: "nearest" });
  return true;
}

function chooseTheme(name) {
  state.theme = name;
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  press("themes", name);
}

// ---- to the clipboard

function command() {
  const { text, answer, messages, token_ids: ids } = state.data.prompt;
  const asked = [ids.length ? `--data.token_ids='[${ids}]'` : `--data.prompt=${quoted(text)}`];
  if (messages.length) asked.push("--data.special_tokens=none"); // the template has written those that there are
  if (answer !== null) asked.push(`--data.answer=${quoted(answer)}`);
  return [about.command, ...asked, "--sweep.open=true"].join(" ");
}

// For a POSIX shell; characters that a terminal would act on, or not show, are escapes of $'…'.
function quoted(text) {
  if (/^[\w%+,./:=@-]+$/.test(text)) return text;
  if (!/[\p{C}\p{Zl}\p{Zp}]/u.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const hex = (c, letter, digits) => `\\${letter}${c.codePointAt(0).toString(16).padStart(digits, "0")}`;
  const written = text.replace(/[\p{C}\p{Zl}\p{Zp}'\\]/gu, (c) => ({ "\n": "\\n", "\t": "\\t", "\r": "\\r", "'": "\\'", "\\": "\\\\" })[c] || (c > "\uffff" ? hex(c, "U", 8) : hex(c, "u", 4)));
  return `$'${written}'`;
}

async function copy(what, text) {
  const box = at("copy-text");
  at("copy-box").hidden = false;
  box.value = text;
  at("copy-label").textContent = what;
  try {
    await navigator.clipboard.writeText(text);
    tell(`${what}: copied.`);
  } catch (error) { // the browser does not let a page write there: the reader copies it from the box
    box.focus();
    box.select();
    tell(`${what}: press Ctrl+C to copy it (${error.name}).`);
  }
}

function copyLink() {
  writeView();
  return copy("Link to this view", location.href);
}

const copyCommand = () => copy("Command for this prompt", command());
