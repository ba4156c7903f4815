// What the reader does: keys, pointer, choices.

function carryTab(grid, cell) {
  grid.tab?.setAttribute("tabindex", "-1");
  cell.setAttribute("tabindex", "0");
  grid.tab = cell;
}

function placeOf(target) {
  const cell = target.closest?.("td.cell");
  if (!cell) return null;
  const grid = GRIDS.find(({ id }) => id === cell.closest("table").id);
  return { grid, cell, row: about.num_blocks - cell.parentNode.sectionRowIndex, pos: cell.cellIndex - 1 };
}

function nameOfCell({ grid, row, pos }) {
  const place = row * width() + pos;
  const where = `row ${row}, position ${pos}`;
  if (grid.lens === null) {
    const value = differenceAt(place);
    const missing = shownLenses().every((name) => reads(name, row)) ? "not finite" : "not read";
    return `${value === null ? missing : signed(value)}, ${where}`;
  }
  const lens = grid.lens();
  if (!lens.rows.includes(row)) return `not read, ${where}`;
  return `${token(lens.top_ids[place * lens.top_k])}, probability ${number(lens.top_p[place * lens.top_k])}, KL ${bits(lens.kl_to_final_bits[place])}, ${where}`;
}

function pin(row, pos) {
  const release = state.pinned && state.row === row && state.pos === pos;
  state.pinned = !release;
  show(row, pos);
}

function release() {
  state.pinned = false;
  show(state.row, state.pos);
}

function goal(key, whole, { row, pos }) {
  const n = about.num_blocks;
  const end = width() - 1;
  const goals = {
    ArrowLeft: [row, pos - 1], ArrowRight: [row, pos + 1], ArrowUp: [row + 1, pos], ArrowDown: [row - 1, pos],
    Home: [whole ? n : row, 0], End: [whole ? 0 : row, end], PageUp: [row + PAGE_OF_ROWS, pos], PageDown: [row - PAGE_OF_ROWS, pos],
  };
  const [toRow, toPos] = goals[key] || [];
  return toRow === undefined ? null : [Math.min(n, Math.max(0, toRow)), Math.min(end, Math.max(0, toPos))];
}

// Focus alone leaves a cell where it is that the heads cover in part.
function focusCell(cell) {
  cell.focus({ preventScroll: true });
  cell.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function onKey(event) {
  const place = placeOf(event.target);
  if (!place || event.altKey || event.metaKey) return;
  const to = goal(event.key, event.ctrlKey, place);
  if (to) focusCell(place.grid.cells[placeInGrid(...to)]);
  else if (event.key === "Enter" || event.key === " ") pin(place.row, place.pos);
  else if (event.key === "f" && !event.ctrlKey) followTop(place);
  else return;
  event.preventDefault();
}

function followTop({ grid, row, pos }) {
  const lens = grid.lens === null ? reading() : grid.lens();
  const id = lens.top_ids[(row * width() + pos) * lens.top_k];
  if (id !== null) toggleToken(id);
}

function onFocus(event) {
  const place = placeOf(event.target);
  if (!place) return;
  carryTab(place.grid, place.cell);
  place.cell.setAttribute("aria-label", nameOfCell(place));
  if (!state.pinned) show(place.row, place.pos);
}

// A grid that scrolls under a resting pointer also sends these: only a pointer that has moved counts.
let pointer = "";
function onPointer(event) {
  const where = `${event.screenX} ${event.screenY}`;
  if (where === pointer) return;
  pointer = where;
  const place = placeOf(event.target);
  if (place && !state.pinned && (place.row !== state.row || place.pos !== state.pos)) show(place.row, place.pos);
}

// A button that is drawn anew keeps the focus.
function onTokenButton(event) {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.go) return goTo(...button.dataset.go.split(" ").map(Number));
  if (!button.dataset.follow) return;
  const box = button.closest("[id]");
  toggleToken(Number(button.dataset.follow));
  (box.querySelector(`[data-follow="${button.dataset.follow}"]`) || at("search")).focus();
}

function goTo(row, pos) {
  state.pinned = true;
  show(row, pos);
  focusCell(cellAt(row, pos));
}

function press(group, name) {
  for (const button of at(group).querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.name === name));
}

function buttons(group, names, text, change, title = () => null) {
  at(group).replaceChildren(...names.map((name) => make("button", { type: "button", "data-name": name, "aria-pressed": "false", ...(title(name) ? { title: title(name) } : {}) }, text(name))));
  at(group).addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) change(button.dataset.name);
  });
}

function chooseLens(name) {
  if (state.other === name) state.other = state.lens;
  state.lens = name;
  pressAll();
  refresh();
}

function chooseOther(name) {
  state.other = name === NO_LENS || name === state.lens ? null : name;
  pressAll();
  layOut();
}

function chooseQuantity(name) {
  state.quantity = name;
  pressAll();
  refresh();
}

function refresh() {
  fillLegend();
  fillGrids();
  fillFound();
  show(state.row, state.pos);
  fillFollowed();
}

function pressAll() {
  press("lenses", state.lens);
  press("others", state.other ?? NO_LENS);
  press("quantities", state.quantity);
  press("measures", state.by);
  press("themes", state.theme);
  for (const button of at("others").children) button.disabled = button.dataset.name === state.lens;
}

function listPrompts(wanted) {
  const found = sources.map((source, i) => [source.dataset.prompt, i]).filter(([name]) => name.toLowerCase().includes(wanted.toLowerCase()));
  at("prompt").replaceChildren(...found.map(([name, i]) => make("option", { value: i }, name)));
  at("prompt-label").textContent = wanted ? `Prompt (${found.length} of ${sources.length})` : `Prompt (${sources.length})`;
  return found.length > 0;
}

function step(by) {
  at("prompt").selectedIndex += by;
  openPrompt(Number(at("prompt").value));
}
