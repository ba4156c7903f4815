function fillAsked() {
  const { prompt, gold, contrast } = state.data;
  at("asked").replaceChildren(make("span", { class: "soft" }, "Prompt "), isolated(escapedText(prompt.text, " \n")));
  at("answers").replaceChildren(...answerParts("Answer", prompt.answer, gold), ...answerParts("Contrast", prompt.contrast, contrast));
  at("answers").hidden = !at("answers").firstChild;
  const places = state.data.nonfinite;
  const listed = places.slice(0, 8).map(([lens, row, pos]) => `${lens} row ${row} position ${pos}`).join(", ");
  at("warning").hidden = places.length === 0;
  at("warning").textContent = `Logits that are not finite: ${listed}${places.length > 8 ? ` and ${places.length - 8} more` : ""}.`;
}

function answerParts(what, asked, { status, pieces, first_id: id }) {
  if (asked === null) return [];
  const soft = (text) => make("span", { class: "soft" }, text);
  const parts = [soft(`${what} `), isolated(visible(asked), "token")];
  if (status === "resolved") parts.push(soft(", first token "), isolated(visible(pieces[0]), "token"), soft(` id ${id}. `));
  if (status === "unresolved") parts.push(soft(" merges with the prompt's last token and has no rank. "));
  return parts;
}

function fillReached() {
  const named = about.lenses.map((name) => [name, milestoneRows(state.data.lenses[name].milestones)]).filter(([, rows]) => rows.length);
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "first row with"), ...named.map(([name]) => make("th", { scope: "col", title: label(name) }, name))));
  const say = (depth) => (rowOf(depth) === null ? "–" : `${depth.row} (${Math.round(100 * depth.frac)}%)`);
  const lines = named.length ? named[0][1].map(([text], i) => make("tr", {}, make("th", { scope: "row" }, text), ...named.map(([, rows]) => make("td", {}, say(rows[i][1]))))) : [];
  const gap = named.map(([name]) => state.data.lenses[name].milestones.delta_layers);
  lines.push(make("tr", {}, make("th", { scope: "row" }, "L_semantic − L_copy"), ...gap.map((rows) => make("td", {}, rows === null ? "–" : number(rows)))));
  at("reached").replaceChildren(head, make("tbody", {}, ...lines));
  at("reached").closest("section").hidden = named.length === 0;
}

function openPrompt(index) {
  state.data = JSON.parse(sources[index].textContent);
  const known = state.tokens.filter((id) => id in state.data.tokens);
  const answer = state.data.gold.first_id;
  Object.assign(state, { index, pinned: false, row: about.num_blocks, pos: width() - 1, tokens: state.chosen ? known : answer === null || state.data.gold.status !== "resolved" ? [] : [answer] });
  fillAsked();
  fillReached();
  layOut();
  at("scroll").scrollTo(at("scroll").scrollWidth, 0);
  at("previous").disabled = at("prompt").selectedIndex <= 0;
  at("following").disabled = at("prompt").selectedIndex >= at("prompt").options.length - 1;
}

function layOut() {
  buildGrids();
  fillLegend();
  fillGrids();
  at("chart").replaceChildren();
  show(state.row, state.pos);
  fillFound();
  for (const grid of shownGrids()) carryTab(grid, grid.cells[placeInGrid(state.row, state.pos)]);
}
