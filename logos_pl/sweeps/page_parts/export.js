// The view as one SVG, of plain shapes and text, and as PNG drawn from it.

const CELL = { width: 66, height: 18, head: 34, side: 34, gap: 18 };
const MAX_PIXELS = 16000; // per side: what browsers draw on a canvas
const MONOSPACE = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';

function viewAsSvg() {
  const style = getComputedStyle(document.body);
  const ink = style.color;
  const panels = shownGrids();
  const panel = { width: CELL.side + CELL.width * width(), height: CELL.head + CELL.height * (about.num_blocks + 1) };
  const charts = [["chart", "chart-title"], ...(state.tokens.length ? [["follow-rows", "follow-rows-title"], ["follow-positions", "follow-positions-title"]] : [])];
  const size = [Math.max(panels.length * (panel.width + CELL.gap), charts.length * 370, 520), panel.height + 104 + 220];
  const words = (x, y, text, more = {}) => draw("text", { x, y, fill: ink, ...more }, text);
  const svg = draw("svg", { width: size[0] + CELL.gap, height: size[1], viewBox: `0 0 ${size[0] + CELL.gap} ${size[1]}`, "font-family": "system-ui, sans-serif", "font-size": 11 });
  svg.append(draw("rect", { width: "100%", height: "100%", fill: style.backgroundColor }));
  svg.append(words(CELL.gap, 24, `${escapedText(about.model, " ")} · ${escapedText(sources[state.index].dataset.prompt, " ")}`, { "font-size": 14, "font-weight": 600 }));
  svg.append(clipped(CELL.gap, 30, size[0] - CELL.gap, 18, words(0, 13, escapedText(state.data.prompt.text, " "))));
  panels.forEach((grid, i) => svg.append(gridAsSvg(grid, CELL.gap + i * (panel.width + CELL.gap), 60, ink, words)));
  svg.append(words(CELL.gap, 60 + panel.height + 34, `Colour: ${QUANTITIES[state.quantity].text}; row ${state.row}, position ${state.pos}.`));
  charts.forEach(([id, title], i) => {
    const x = CELL.gap + i * 370;
    const place = draw("g", { transform: `translate(${x} ${panel.height + 120})` }, words(0, 0, at(title).textContent, { "font-weight": 600 }), chartAsSvg(id));
    svg.append(place);
  });
  legendAsSvg(svg, CELL.gap, panel.height + 104 + 208, words);
  return svg;
}

function clipped(x, y, width, height, ...children) {
  return draw("svg", { x, y, width, height, overflow: "hidden" }, ...children);
}

function gridAsSvg(grid, x, y, ink, words) {
  const group = draw("g", { transform: `translate(${x} ${y})` }, words(0, 10, grid.title(), { "font-weight": 600 }));
  const mono = { "font-family": MONOSPACE };
  state.data.ids.forEach((id, pos) => group.append(clipped(CELL.side + pos * CELL.width, 14, CELL.width - 3, 20, words(2, 14, token(id), mono))));
  for (let row = 0; row <= about.num_blocks; row++) {
    const top = CELL.head + (about.num_blocks - row) * CELL.height;
    group.append(words(CELL.side - 6, top + 13, String(row), { "text-anchor": "end" }));
    for (let pos = 0; pos < width(); pos++) group.append(cellAsSvg(grid.cells[placeInGrid(row, pos)], CELL.side + pos * CELL.width, top, mono));
  }
  const [left, top] = [CELL.side + state.pos * CELL.width, CELL.head + (about.num_blocks - state.row) * CELL.height];
  group.append(draw("rect", { x: left, y: top, width: CELL.width, height: CELL.height, fill: "none", stroke: state.pinned ? "#d4005f" : ink, "stroke-width": 2 }));
  return group;
}

function cellAsSvg(cell, x, y, mono) {
  const [, kind, place] = /(?:^| )([cd])(\d+)/.exec(cell.className) || [];
  const hex = kind === undefined ? "cccccc" : (kind === "c" ? VIRIDIS : DIVERGING)[place];
  const text = draw("text", { x: 4, y: 13, fill: inkOn(hex), ...mono, ...(cell.classList.contains("agrees") ? { "font-weight": 700 } : {}) }, cell.textContent);
  const box = clipped(x, y, CELL.width, CELL.height, draw("rect", { width: CELL.width, height: CELL.height, fill: "#" + hex }), text);
  const slot = /(?:^| )f(\d)/.exec(cell.className);
  if (slot) box.append(draw("rect", { y: CELL.height - 3, width: CELL.width, height: 3, fill: getComputedStyle(document.documentElement).getPropertyValue(`--follow-${slot[1]}`) }));
  return box;
}

// What the style sheet says of each part, written into the part.
function chartAsSvg(id) {
  const copy = at(id).cloneNode(true);
  const [from, to] = [at(id), copy].map((svg) => [...svg.querySelectorAll("*")]);
  to.forEach((part, i) => {
    const style = getComputedStyle(from[i]);
    for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity"]) part.setAttribute(name, style.getPropertyValue(name));
    part.removeAttribute("class");
  });
  for (const [name, value] of Object.entries({ y: 6, width: 340, height: 170, "font-size": 10 })) copy.setAttribute(name, value);
  for (const name of ["id", "class", "role", "aria-label", "aria-labelledby"]) copy.removeAttribute(name);
  return copy;
}

function legendAsSvg(svg, x, y, words) {
  let left = x;
  const style = getComputedStyle(document.documentElement);
  const entries = [...about.lenses.map((name) => [label(name), `--${name}`]), ...state.tokens.map((id, slot) => [token(id), `--follow-${slot}`])];
  for (const [text, name] of entries) {
    svg.append(draw("rect", { x: left, y: y - 8, width: 10, height: 10, fill: style.getPropertyValue(name) }), words(left + 14, y, text));
    left += 34 + 7 * [...text].length;
  }
}

function svgText() {
  return new XMLSerializer().serializeToString(viewAsSvg());
}

// Resolves to a PNG of twice the size of the SVG, or of what a canvas holds.
async function viewAsPng() {
  const svg = viewAsSvg();
  const [w, h] = ["width", "height"].map((name) => Number(svg.getAttribute(name)));
  const scale = Math.min(2, MAX_PIXELS / w, MAX_PIXELS / h);
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(svg));
  await image.decode();
  const canvas = make("canvas", { width: Math.round(w * scale), height: Math.round(h * scale) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function save(blob, ending) {
  const name = [about.model, sources[state.index].dataset.prompt, ...shownLenses()].join("-").replace(/[^\p{L}\p{N}.]+/gu, "-").slice(0, 120);
  const link = make("a", { href: URL.createObjectURL(blob), download: `${name}.${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  tell(`Saved as ${link.download}.`);
}

const saveSvg = () => save(new Blob([svgText()], { type: "image/svg+xml" }), "svg");
const savePng = async () => save(await viewAsPng(), "png");
