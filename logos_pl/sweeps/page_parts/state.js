const PAGE_OF_ROWS = 10;
const PROMPTS_WITHOUT_FILTER = 12;
const FEW_BLOCKS = 16;

const at = (id) => document.getElementById(id);
const about = JSON.parse(at("about").textContent);
const sources = [...document.querySelectorAll("script[data-prompt]")];
const state = {
  data: null, index: 0, lens: about.lenses[0], other: null, quantity: "kl", row: 0, pos: 0, pinned: false, cells: [],
  tokens: [], chosen: false, by: "rank", theme: "system",
};

const label = (lens) => about.labels[lens];
const short = (rank) => (rank < 10000 ? String(rank) : Math.round(rank / 1000) + "k");
const token = (id) => (id === null ? "(none)" : visible(state.data.tokens[id]));
const reading = () => state.data.lenses[state.lens];
const width = () => state.data.ids.length;
const reads = (name, row) => state.data.lenses[name].rows.includes(row);
const cellAt = (row, pos) => state.cells[placeInGrid(row, pos)];
const placeInGrid = (row, pos) => (about.num_blocks - row) * width() + pos;
const shownLenses = () => (state.other === null ? [state.lens] : [state.lens, state.other]);

function valueAt(lens, place) {
  const list = QUANTITIES[state.quantity].list;
  return list ? lens[list][place] : lens.top_p[place * lens.top_k];
}
