// What stands at one cell, under one lens or two.

function show(row, pos) {
  for (const grid of shownGrids()) mark(grid, false);
  const moved = pos !== state.pos || row !== state.row;
  Object.assign(state, { row, pos });
  for (const grid of shownGrids()) mark(grid, true);
  fillDetail();
  if (moved || !at("chart").firstChild) fillCharts();
  noteView();
}

function mark(grid, on) {
  const table = at(grid.id);
  const cell = grid.cells[placeInGrid(state.row, state.pos)];
  const parts = [cell, table.tHead.rows[0].cells[state.pos + 1], table.tBodies[0].rows[about.num_blocks - state.row]?.cells[0]];
  for (const part of parts) part?.toggleAttribute("data-on", on);
  cell?.setAttribute("aria-selected", String(on && state.pinned));
}

function fillDetail() {
  const place = state.row * width() + state.pos;
  at("detail-title").replaceChildren(`Row ${state.row}, position ${state.pos}${namesOf(state.pos)} `, isolated(token(state.data.ids[state.pos]), "token"));
  at("detail-line").textContent = `${shownLenses().map(label).join(" → ")}, next token`;
  at("unpin").hidden = !state.pinned;
  list("numbers", pairsOf((lens) => [
    ["entropy", lens.entropy_bits[place], "bit"],
    ["KL(row ‖ final)", lens.kl_to_final_bits[place], "bit"],
    ["KL(final ‖ row)", lens.kl_from_final_bits[place], "bit"],
  ]));
  fillTop("top", reading(), place);
  at("top-title").classList.toggle("unseen", state.other === null);
  at("top-title").textContent = `The likeliest tokens, ${label(state.lens)}`;
  at("top-other").closest("table").hidden = state.other === null;
  if (state.other !== null) {
    fillTop("top-other", state.data.lenses[state.other], place);
    at("top-other-title").textContent = `The likeliest tokens, ${label(state.other)}`;
  }
  list("answer-numbers", pairsOf((lens) => [["all other tokens", lens.rest_mass[place], ""], ...(isLast() ? answerNumbers(lens.next, state.row) : [])]));
}

const isLast = () => state.pos === width() - 1;
const unit = (value, name) => number(value) + (value === null || value === undefined || name === "" ? "" : value === 1 ? ` ${name}` : ` ${name}s`);
const bits = (value) => unit(value, "bit");
const expected = () => (isLast() ? state.data.gold.first_id : state.data.ids[state.pos + 1]);

// Names and values under the lens at hand; with a second lens, under both, and what it adds.
function pairsOf(read) {
  const here = (name) => ([what, value, of]) => [what, reads(name, state.row) ? value : undefined, of];
  const [first, second] = shownLenses().map((name) => read(state.data.lenses[name]).map(here(name)));
  return first.map(([name, value, of], i) => [name, second ? change(value, second[i][1], of) : unit(value, of)]);
}

function change(before, after, of) {
  const both = `${number(before)} → ${unit(after, of)}`;
  return [before, after].some((value) => value === null || value === undefined) ? both : `${both} (${signed(after - before)})`;
}

function list(id, pairs) {
  at(id).replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function fillTop(id, lens, place) {
  const from = place * lens.top_k;
  const lines = [];
  for (let i = from; i < from + lens.top_k; i++) if (lens.top_ids[i] !== null) lines.push(topLine(lens.top_ids[i], lens.top_p[i]));
  at(id).replaceChildren(...lines);
}

function topLine(id, p) {
  const text = make("td", { class: "token-cell", title: token(id) }, isolated(token(id), "code"));
  const bar = make("span", { class: "bar" }, make("span", {}, number(p)), make("i"));
  bar.lastChild.style.width = 100 * Math.min(1, Math.max(0, p || 0)) + "%";
  const line = make("tr", {}, make("td", { class: "pin-cell" }, followButton(id)), text, make("td", { class: "id" }, id), make("td", {}, bar));
  if (id === expected()) {
    line.dataset.hit = "";
    text.append(make("small", {}, isLast() ? "  answer" : "  next"));
  }
  return line;
}

function answerNumbers(next, row) {
  const pairs = [["cosine to the final logits", next.cos_to_final[row], ""], ["entropy of the model", next.teacher_entropy_bits[row], "bit"]];
  if (state.data.gold.status !== "resolved") return pairs;
  pairs.push(
    ["rank of the answer", next.answer_rank[row], ""],
    ["P(answer), first token", next.p_answer[row], ""],
    ["its logit minus the best other", next.answer_logit_gap[row], "nat"],
    ["−log₂ P(whole answer)", next.answer_nll_bits[row], "bit"],
  );
  if (state.data.contrast.status === "resolved") pairs.push(["P(answer) − P(contrast)", next.control_margin[row], ""]);
  return pairs;
}

// The parts of a conversation that a position belongs to, such as ", turn1 (user)".
function namesOf(pos) {
  const parts = state.data.places.filter(([, , first, last]) => first <= pos && pos <= last);
  return parts.map(([name, role]) => `, ${name}${role === null ? "" : ` (${role})`}`).join("");
}
