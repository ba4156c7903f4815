// Curves: KL against depth, and followed tokens against depth and position.

const BOX = { left: 30, right: 332, top: 8, bottom: 146 };

function fillCharts() {
  fillChart();
  fillFollowed();
}

function fillChart() {
  const n = about.num_blocks;
  const curves = about.lenses.map((name) => [name, Array.from({ length: n + 1 }, (_, row) => state.data.lenses[name].kl_to_final_bits[row * width() + state.pos])]);
  const [step, top] = axis(Math.max(0.1, ...curves.flatMap(([, values]) => values.filter((v) => v !== null))));
  const x = along(n);
  const y = (value) => BOX.bottom - ((BOX.bottom - BOX.top) * Math.max(0, value)) / top;
  const levels = Array.from({ length: Math.floor((top * 1.001) / step) + 1 }, (_, i) => [y(i * step), String(Number((i * step).toPrecision(6)))]);
  at("chart-title").textContent = `KL(row ‖ final), bits, at position ${state.pos}`;
  at("chart").setAttribute("aria-label", `${at("chart-title").textContent}. ${curves.map(([name, values]) => `${label(name)}: ${number(reads(name, state.row) ? values[state.row] : undefined)} at row ${state.row}`).join("; ")}`);
  at("chart-keys").replaceChildren(...about.lenses.map((name) => make("li", {}, sample(name), label(name))));
  at("chart").replaceChildren(...frame(x, n, levels, "row"), ...curves.map(([name, values]) => curve({ class: name, "data-lens": name }, values, x, y, state.row)), rule(x, state.row));
}

function axis(most) {
  const unit = 10 ** Math.floor(Math.log10(most / 4));
  const step = unit * [1, 2, 2.5, 5, 10].find((factor) => 4 * factor * unit >= most);
  return [step, step * Math.ceil(most / step - 1e-9)];
}

const along = (last) => (i) => BOX.left + ((BOX.right - BOX.left) * i) / Math.max(1, last);

function frame(x, last, levels, name) {
  const parts = levels.flatMap(([level, text]) => [
    draw("line", { class: "axis", x1: BOX.left, x2: BOX.right, y1: level, y2: level }),
    draw("text", { x: BOX.left - 4, y: level + 3, "text-anchor": "end" }, text),
  ]);
  const every = [1, 2, 4, 5, 8, 10, 16, 20, 40].find((gap) => last / gap <= 10) || 100;
  for (let i = 0; i <= last; i += every) parts.push(draw("text", { x: x(i), y: BOX.bottom + 12, "text-anchor": "middle" }, String(i)));
  parts.push(draw("text", { x: (BOX.left + BOX.right) / 2, y: BOX.bottom + 23, "text-anchor": "middle" }, name));
  return parts;
}

function curve(attributes, values, x, y, here) {
  let path = "";
  values.forEach((value, i) => {
    if (value !== null) path += `${path && values[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  const group = draw("g", attributes, draw("path", { class: "line", d: path }));
  const dots = values.flatMap((value, i) => (value !== null && alone(values, i, (v) => v) ? [i] : []));
  group.append(...dots.map((i) => draw("circle", { class: "dot", cx: x(i), cy: y(values[i]), r: 1.8 })));
  if (values[here] !== null) group.append(draw("circle", { class: "dot", cx: x(here), cy: y(values[here]), r: 3 }));
  return group;
}

const rule = (x, i) => draw("line", { class: "here", x1: x(i), x2: x(i), y1: BOX.top, y2: BOX.bottom });
const sample = (name) => draw("svg", { class: name, viewBox: "0 0 28 8", "aria-hidden": "true" }, draw("path", { class: "line", d: "M1 4H27" }));
