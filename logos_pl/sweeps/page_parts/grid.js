// One table of rows by positions for every lens that is compared, and one for their difference.

const light = (hex) => {
  const [r, g, b] = hex.match(/../g).map((part) => parseInt(part, 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179; // where black and white stand out equally well
};
const inkOn = (hex) => (light(hex) ? "#000" : "#fff");

function addColours() {
  const sheet = document.styleSheets[0];
  const add = (name, hex) => sheet.insertRule(`.${name} { background: #${hex}; color: ${inkOn(hex)}; }`, sheet.cssRules.length);
  VIRIDIS.forEach((hex, i) => add(`c${i}`, hex));
  DIVERGING.forEach((hex, i) => add(`d${i}`, hex));
  at("ramp").style.backgroundImage = ramp([...VIRIDIS].reverse());
  at("ramp-difference").style.backgroundImage = ramp(DIVERGING);
}

const ramp = (colours) => `linear-gradient(to right, ${colours.map((hex) => "#" + hex).join(",")})`;
const colour = (value) => Math.round(255 * (1 - Math.min(1, Math.max(0, QUANTITIES[state.quantity].place(value)))));

const GRIDS = [
  { id: "grid", cells: [], tab: null, shown: () => true, title: () => label(state.lens), lens: () => state.data.lenses[state.lens] },
  { id: "grid-other", cells: [], tab: null, shown: () => state.other !== null, title: () => label(state.other), lens: () => state.data.lenses[state.other] },
  { id: "grid-difference", cells: [], tab: null, shown: () => state.other !== null, title: () => `${label(state.other)} minus ${label(state.lens)}`, lens: null },
];
const shownGrids = () => GRIDS.filter((grid) => grid.shown());

function buildGrids() {
  for (const grid of GRIDS) {
    grid.tab = null;
    grid.cells = [];
    at(grid.id).closest("figure").hidden = !grid.shown();
    if (grid.shown()) buildGrid(grid);
    else at(grid.id).tBodies[0].replaceChildren();
  }
  state.cells = GRIDS[0].cells;
  at("main").toggleAttribute("data-compare", state.other !== null);
}

function buildGrid(grid) {
  const table = at(grid.id);
  const rows = about.num_blocks + 1;
  table.tHead.replaceChildren(make("tr", {}, cornerHead(grid), ...state.data.ids.map(columnHead)));
  const line = make("tr", {}, make("th", { scope: "row" }));
  for (let pos = 0; pos < width(); pos++) line.append(make("td", { class: "cell", role: "gridcell", tabindex: "-1", "aria-selected": "false" }, make("bdi")));
  const lines = Array.from({ length: rows }, () => line.cloneNode(true));
  table.tBodies[0].replaceChildren(...lines);
  grid.cells = lines.flatMap((tr) => [...tr.cells].slice(1));
}

function cornerHead(grid) {
  const rank = make("span", {}, make("small", {}, "answer's"), "rank");
  const head = make("div", { class: "rowhead" }, make("span", {}, "row"), make("span", { class: "corner-marks" }, ""), rank);
  if (state.data.gold.status !== "resolved" || grid.lens === null) rank.replaceChildren();
  return make("th", { scope: "col" }, head);
}

function columnHead(id, pos) {
  return make("th", { scope: "col", title: token(id) }, make("small", {}, pos), isolated(token(id)));
}

function fillGrids() {
  for (const grid of shownGrids()) {
    const size = `${about.num_blocks + 1} rows of depth by ${width()} positions`;
    at(grid.id).setAttribute("aria-label", grid.lens === null ? `${grid.title()}, ${QUANTITIES[state.quantity].text}: ${size}` : `Top-1 tokens of the ${grid.title()}: ${size}`);
    at(`${grid.id}-title`).textContent = grid.title();
    if (grid.lens === null) fillDifference(grid);
    else fillGrid(grid, grid.lens());
    grid.tab?.removeAttribute("aria-label");
  }
}

function fillGrid(grid, lens) {
  const last = about.num_blocks * width();
  const names = {};
  const slots = slotsOf(lens);
  for (let row = 0; row <= about.num_blocks; row++) {
    for (let pos = 0; pos < width(); pos++) {
      const place = row * width() + pos;
      const id = lens.top_ids[place * lens.top_k];
      const value = valueAt(lens, place);
      const cell = grid.cells[placeInGrid(row, pos)];
      cell.firstChild.textContent = lens.rows.includes(row) ? (names[id] ??= token(id)) : "";
      const kind = value === null ? "none" : "c" + colour(value);
      cell.className = `cell ${kind}${id !== null && id === lens.top_ids[(last + pos) * lens.top_k] ? " agrees" : ""}${slots[place] === undefined ? "" : " f" + slots[place]}`;
    }
    fillRowHead(grid, lens, row);
  }
}

// Which of the followed tokens stands among the likeliest of a cell, by place; the one that stands highest.
function slotsOf(lens) {
  const slots = [];
  if (!state.tokens.length) return slots;
  const order = new Map(state.tokens.map((id, slot) => [id, slot]));
  lens.top_ids.forEach((id, i) => {
    const place = Math.floor(i / lens.top_k);
    if (slots[place] === undefined && order.has(id)) slots[place] = order.get(id);
  });
  return slots;
}

function fillRowHead(grid, lens, row) {
  const head = at(grid.id).tBodies[0].rows[about.num_blocks - row].cells[0];
  const rank = lens.next.answer_rank[row];
  const shown = make("span", {}, rank === null ? "" : "#" + short(rank));
  if (rank === 1) shown.dataset.first = "";
  const marks = reachedAt(lens, row);
  const said = [`row ${row}`, ...marks, ...(rank === null ? [] : [`rank of the answer ${rank}`])].join("; ");
  head.title = said;
  head.setAttribute("aria-label", said);
  head.replaceChildren(make("div", { class: "rowhead" }, make("span", {}, row), make("span", { class: "chips" }, ...chips(lens, row)), shown));
}

const rowOf = (depth) => (depth ? depth.row : null);

function chips(lens, row) {
  const reached = lens.milestones;
  if (!reached) return [];
  const strongest = CHIPS.map(([kind, list]) => [kind, list.find(([name]) => rowOf(reached[name]) === row)]);
  return strongest.filter(([, found]) => found).map(([kind, [, text]]) => make("span", { class: `chip ${kind}` }, text));
}

function reachedAt(lens, row) {
  return milestoneRows(lens.milestones).filter(([, depth]) => rowOf(depth) === row).map(([text]) => "first " + text);
}

function milestoneRows(reached) {
  if (!reached) return [];
  return MILESTONES.flatMap(([name, text]) =>
    text.includes("$") ? Object.entries(reached[name]).map(([key, depth]) => [text.replace("$", key), depth]) : [[text, reached[name]]],
  );
}

// ---- the difference of two lenses

function differenceAt(place) {
  const [first, second] = shownLenses().map((name) => valueAt(state.data.lenses[name], place));
  return first === null || second === null ? null : second - first;
}

function fillDifference(grid) {
  const { reach } = QUANTITIES[state.quantity];
  for (let row = 0; row <= about.num_blocks; row++) {
    for (let pos = 0; pos < width(); pos++) {
      const value = differenceAt(row * width() + pos);
      const cell = grid.cells[placeInGrid(row, pos)];
      cell.firstChild.textContent = value === null ? "" : briefly(value);
      cell.className = `cell figure ${value === null ? "none" : "d" + divergingAt(value / reach)}`;
    }
    const head = at(grid.id).tBodies[0].rows[about.num_blocks - row].cells[0];
    head.setAttribute("aria-label", `row ${row}`);
    head.replaceChildren(make("div", { class: "rowhead" }, make("span", {}, row)));
  }
}

const divergingAt = (part) => Math.round(((DIVERGING.length - 1) * (1 + Math.min(1, Math.max(-1, part)))) / 2);

function fillLegend() {
  const { text, ticks, open, place, reach } = QUANTITIES[state.quantity];
  const last = ticks.length - 1;
  at("legend-text").textContent = text;
  setTicks("ticks", ticks.map((tick, i) => [place(tick), open && i === last ? "≥ " + tick : tick]));
  at("difference-legend").hidden = state.other === null;
  if (state.other === null) return;
  at("difference-text").textContent = `difference, ${GRIDS[2].title()}`;
  setTicks("ticks-difference", [-1, -0.5, 0, 0.5, 1].map((part) => [(part + 1) / 2, signed(part * reach)]));
}

function setTicks(id, marks) {
  at(id).replaceChildren(
    ...marks.map(([place, text]) => {
      const mark = make("span", {}, text);
      mark.style.left = 100 * place + "%";
      return mark;
    }),
  );
}
