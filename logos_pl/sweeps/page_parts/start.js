function listenToGrids() {
  for (const { id } of GRIDS) {
    const grid = at(id);
    grid.addEventListener("keydown", onKey);
    grid.addEventListener("focusin", onFocus);
    grid.addEventListener("click", (event) => {
      const place = placeOf(event.target);
      if (!place) return;
      pin(place.row, place.pos);
      if (matchMedia("(max-width: 900px)").matches) at("detail").scrollIntoView({ block: "nearest" });
    });
    grid.parentNode.addEventListener("scroll", scrollTogether);
  }
  document.addEventListener("pointermove", onPointer);
}

function scrollTogether(event) {
  for (const { id } of shownGrids()) {
    const box = at(id).parentNode;
    if (box.scrollTop !== event.target.scrollTop) box.scrollTop = event.target.scrollTop;
    if (box.scrollLeft !== event.target.scrollLeft) box.scrollLeft = event.target.scrollLeft;
  }
}

function listen() {
  listenToGrids();
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.pinned) release();
  });
  const clicks = {
    previous: () => step(-1), following: () => step(1), "copy-link": copyLink, "copy-command": copyCommand, "save-svg": saveSvg, "save-png": savePng,
    skip: () => focusCell(cellAt(state.row, state.pos)),
    unpin: () => {
      release();
      focusCell(cellAt(state.row, state.pos));
    },
  };
  for (const [id, act] of Object.entries(clicks)) at(id).addEventListener("click", act);
  for (const id of ["top", "top-other", "followed", "found"]) at(id).addEventListener("click", onTokenButton);
  at("prompt").addEventListener("change", () => openPrompt(Number(at("prompt").value)));
  at("search").addEventListener("input", fillFound);
  at("filter").addEventListener("input", () => {
    if (listPrompts(at("filter").value)) openPrompt(Number(at("prompt").value));
  });
  addEventListener("hashchange", readView);
}

function addButtons() {
  const own = (name) => name;
  buttons("lenses", about.lenses, own, chooseLens, label);
  buttons("others", [NO_LENS, ...about.lenses], own, chooseOther, (name) => (name === NO_LENS ? null : label(name)));
  buttons("quantities", Object.keys(QUANTITIES), (name) => QUANTITIES[name].button, chooseQuantity);
  buttons("measures", MEASURES, (name) => (name === "p" ? "probability" : name), (name) => {
    state.by = name;
    press("measures", name);
    fillFollowed();
    noteView();
  });
  buttons("themes", THEMES, own, (name) => {
    chooseTheme(name);
    noteView();
  });
  at("others").closest(".field").hidden = about.lenses.length < 2;
}

function start() {
  at("about-line").textContent = `${about.num_blocks} blocks · ${about.lenses.map(label).join(", ")} · ${sources.length} prompt${sources.length === 1 ? "" : "s"}`;
  if (!sources.length) {
    at("asked").textContent = "No prompt was read.";
    return;
  }
  at("controls").hidden = at("main").hidden = at("actions").hidden = false;
  at("filter").hidden = sources.length <= PROMPTS_WITHOUT_FILTER;
  at("main").toggleAttribute("data-few", about.num_blocks <= FEW_BLOCKS);
  document.querySelector("details").open = about.num_blocks <= FEW_BLOCKS;
  addColours();
  addButtons();
  listPrompts("");
  listen();
  pressAll();
  if (!readView()) openPrompt(0);
}

start();
