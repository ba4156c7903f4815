// Tokens that the reader follows: through the rows at a position, and through the positions at a row.

const MAX_FOLLOWED = 4;
const MAX_FOUND = 30;

// Rank and probability of a token. Exact for the tokens that the sweep has followed; for others, their place among the
// likeliest of the cell. Elsewhere all that is known is that the token is behind these: `below` is the last one's probability.
function standing(name, id, row, pos) {
  const lens = state.data.lenses[name];
  const place = row * width() + pos;
  if (!reads(name, row)) return { rank: null, p: null, below: null, unread: true };
  const slot = state.data.followed_ids.indexOf(id);
  if (slot >= 0) {
    const i = place * state.data.followed_ids.length + slot;
    return { rank: lens.followed_rank[i], p: lens.followed_p[i], below: null };
  }
  const from = place * lens.top_k;
  for (let i = from; i < from + lens.top_k; i++) if (lens.top_ids[i] === id) return { rank: i - from + 1, p: lens.top_p[i], below: null };
  return { rank: null, p: null, below: lens.top_ids[from] === null ? null : lens.top_p[from + lens.top_k - 1] };
}

function said({ rank, p, below, unread }) {
  if (unread) return "not read";
  if (rank !== null) return `rank ${number(rank)}, p ${number(p)}`;
  return below === null ? "not finite" : `not among the ${reading().top_k} likeliest, p ≤ ${number(below)}`;
}

function followButton(id) {
  const on = state.tokens.includes(id);
  const button = make("button", { type: "button", class: `pin${on ? " f" + state.tokens.indexOf(id) : ""}`, "data-follow": id, "aria-pressed": String(on), "aria-label": `follow ${token(id)}`, title: on ? "do not follow any more" : "follow this token" }, on ? "●" : "○");
  button.disabled = !on && state.tokens.length >= MAX_FOLLOWED;
  return button;
}

function toggleToken(id) {
  if (state.tokens.includes(id)) state.tokens = state.tokens.filter((other) => other !== id);
  else if (state.tokens.length < MAX_FOLLOWED) state.tokens = [...state.tokens, id];
  else return tell(`No more than ${MAX_FOLLOWED} tokens are followed at a time: let go of one.`);
  state.chosen = true;
  tell(state.tokens.includes(id) ? `Following ${token(id)}: ${said(standing(state.lens, id, state.row, state.pos))}.` : `No longer following ${token(id)}.`);
  tokensChanged();
}

function tokensChanged() {
  fillGrids();
  fillDetail();
  fillFollowed();
  fillFound();
  noteView();
}

function fillFollowed() {
  const some = state.tokens.length > 0;
  at("follow-empty").hidden = some;
  at("follow-charts").hidden = !some;
  at("followed").replaceChildren(...state.tokens.map(followedLine));
  at("follow-lenses").textContent = some && state.other !== null ? `Narrow: ${label(state.lens)}; broad: ${label(state.other)}.` : "";
  if (!some) return;
  const n = about.num_blocks;
  const end = width() - 1;
  drawFollowed("rows", n, state.row, `through the rows at position ${state.pos}`, "row", (name, id, i) => standing(name, id, i, state.pos));
  drawFollowed("positions", end, state.pos, `through the positions at row ${state.row}`, "position", (name, id, i) => standing(name, id, state.row, i));
}

function followedLine(id, slot) {
  const standings = shownLenses().map((name) => said(standing(name, id, state.row, state.pos)));
  const key = draw("svg", { class: "f" + slot, viewBox: "0 0 28 8", "aria-hidden": "true" }, draw("path", { class: "line", d: "M1 4H27" }));
  return make("li", {}, followButton(id), key, isolated(token(id), "code"), make("span", { class: "soft" }, ` ${standings.join(" → ")}`));
}

function drawFollowed(where, last, here, title, name, at_) {
  const lines = shownLenses().flatMap((lens, second) => state.tokens.map((id, slot) => [lens, second, id, slot, Array.from({ length: last + 1 }, (_, i) => at_(lens, id, i))]));
  const x = along(last);
  const { y, levels, value } = state.by === "rank" ? rankScale(lines) : probabilityScale(lines);
  const text = `${state.by === "rank" ? "Rank" : "Probability"} ${title}`;
  const svg = at(`follow-${where}`);
  at(`follow-${where}-title`).textContent = text;
  svg.setAttribute("aria-label", `${text}. ${lines.map(([lens, , id, , run]) => `${token(id)}, ${label(lens)}: ${said(run[here])}`).join("; ")}`);
  svg.replaceChildren(...frame(x, last, levels, name), ...lines.map(([lens, second, id, slot, run]) => followedCurve(lens, second, id, slot, run, x, y, value, here)), rule(x, here));
}

// Ranks on a logarithmic scale, the first at the top; tokens behind the listed ones stand at the bottom, unconnected.
function rankScale(lines) {
  const known = lines.flatMap(([, , , , run]) => run.map(({ rank }) => rank || 0));
  const most = 10 ** Math.ceil(Math.log10(Math.max(10, ...known)));
  const beyond = lines.some(([, , , , run]) => run.some(({ below }) => below !== null));
  const bottom = BOX.bottom - (beyond ? 12 : 0);
  const y = (rank) => BOX.top + ((bottom - BOX.top) * Math.log10(rank)) / Math.log10(most);
  const levels = Array.from({ length: Math.log10(most) + 1 }, (_, i) => [y(10 ** i), short(10 ** i)]);
  if (beyond) levels.push([BOX.bottom, `>${reading().top_k}`]);
  return { y: (point) => (point.rank === null ? BOX.bottom : y(point.rank)), levels, value: ({ rank }) => rank };
}

function probabilityScale(lines) {
  const [step, top] = axis(Math.max(0.001, ...lines.flatMap(([, , , , run]) => run.map(({ p, below }) => p ?? below ?? 0))));
  const y = (p) => BOX.bottom - ((BOX.bottom - BOX.top) * p) / top;
  const levels = Array.from({ length: Math.round(top / step) + 1 }, (_, i) => [y(i * step), String(Number((i * step).toPrecision(3)))]);
  return { y: ({ p, below }) => y(p ?? below), levels, value: ({ p }) => p };
}

function followedCurve(lens, second, id, slot, run, x, y, value, here) {
  const group = draw("g", { class: `f${slot}${second ? " second" : ""}`, "data-token": id, "data-lens": lens });
  let path = "";
  run.forEach((point, i) => {
    if (value(point) !== null) path += `${path && value(run[i - 1]) !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(point).toFixed(1)}`;
    else if (point.below !== null) group.append(draw("circle", { class: "beyond", cx: x(i).toFixed(1), cy: y(point).toFixed(1), r: 2 }));
    if (value(point) !== null && alone(run, i, value)) group.append(draw("circle", { class: "dot", cx: x(i).toFixed(1), cy: y(point).toFixed(1), r: 2.2 }));
  });
  group.prepend(draw("path", { class: "line", d: path }));
  if (value(run[here]) !== null) group.append(draw("circle", { class: "dot", cx: x(here), cy: y(run[here]), r: 3 }));
  return group;
}

const alone = (run, i, value) => [i - 1, i + 1].every((j) => run[j] === undefined || value(run[j]) === null);

// ---- the vocabulary of shown tokens

// Every token that is listed anywhere in this prompt under the lens at hand, with the number of cells that list it, its
// best place and where that is.
function vocabulary() {
  const lens = reading();
  const found = new Map();
  lens.top_ids.forEach((id, i) => {
    if (id === null) return;
    const place = Math.floor(i / lens.top_k);
    const rank = (i % lens.top_k) + 1;
    const entry = found.get(id) || { id, cells: 0, rank: Infinity, p: -1, place };
    entry.cells += 1;
    if (rank < entry.rank || (rank === entry.rank && lens.top_p[i] > entry.p)) Object.assign(entry, { rank, p: lens.top_p[i], place });
    found.set(id, entry);
  });
  return [...found.values()].sort((a, b) => a.rank - b.rank || b.cells - a.cells || b.p - a.p);
}

function fillFound() {
  const wanted = at("search").value.toLowerCase();
  at("found").replaceChildren();
  at("found-line").textContent = "";
  if (!wanted) return;
  const matches = vocabulary().filter(({ id }) => token(id).toLowerCase().includes(wanted) || state.data.tokens[id].toLowerCase().includes(wanted));
  const more = matches.length > MAX_FOUND ? `, the first ${MAX_FOUND} shown` : "";
  at("found-line").textContent = `${matches.length} token${matches.length === 1 ? "" : "s"}${more}`;
  at("found").replaceChildren(...matches.slice(0, MAX_FOUND).map(foundLine));
}

function foundLine({ id, cells, rank, place }) {
  const row = Math.floor(place / width());
  const pos = place % width();
  const go = make("button", { type: "button", class: "go", "data-go": `${row} ${pos}`, "aria-label": `go to ${token(id)} at row ${row}, position ${pos}` }, isolated(token(id), "code"));
  return make("li", {}, followButton(id), go, make("span", { class: "soft" }, ` id ${id} · best rank ${rank} at row ${row}, position ${pos} · ${cells} cell${cells === 1 ? "" : "s"}`));
}
