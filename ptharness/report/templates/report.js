// Draws the charts of the page and follows the three choices: task, checkpoints, two to compare.
// All foreign text enters the page by textContent; charts are interpreted, never evaluated.
"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const chooser = document.getElementById("scope");
  const chips = all(".chips input");
  const views = new Map();
  const drawing = new Set();

  const scope = () => Number(chooser ? chooser.value : document.body.dataset.scope);
  const shown = () => [...new Set(chips.filter((chip) => chip.checked).map((chip) => Number(chip.value)))];

  // Colours are CSS variables, so that light, dark and print need no second drawing.
  const config = {
    background: "transparent",
    // The container has the words; a label on every mark would read out their coordinates.
    aria: false,
    font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: "var(--muted)", titleColor: "var(--muted)", titleFontWeight: "normal",
      gridColor: "var(--grid)", domainColor: "var(--axis)", tickColor: "var(--axis)",
      labelFontSize: 11, titleFontSize: 11, labelPadding: 5, titlePadding: 7, domain: false,
    },
    text: { fontSize: 12 },
  };

  const tip = document.getElementById("tip");
  function showTip(_handler, event, _item, value) {
    if (value === null || value === undefined || value === "") {
      tip.hidden = true;
      return;
    }
    tip.textContent = String(value);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const below = event.clientY + 16;
    const top = below + box.height > innerHeight ? event.clientY - box.height - 12 : below;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.max(8, top)}px`;
  }

  const content = (element) => JSON.parse(document.getElementById(`data-${element.dataset.figure}`).textContent);

  // A chart that has nothing for the chosen task says why, in its place.
  function fits(element) {
    const figure = element.closest(".figure");
    if (!figure.dataset.scopes) return true;
    const has = figure.dataset.scopes.split(" ").map(Number).includes(scope());
    const note = figure.querySelector(".nothing");
    element.hidden = !has;
    note.hidden = has;
    if (!has) note.textContent = content(element).reasons[scope()] || "Nothing is defined for this choice.";
    return has;
  }

  const visible = (element) => element.getClientRects().length > 0;

  async function draw(element) {
    if (views.has(element) || drawing.has(element) || !fits(element) || !visible(element)) return;
    drawing.add(element);
    if (element.dataset.width) element.style.maxWidth = `${element.dataset.width}px`;
    const { spec } = content(element);
    for (const parameter of spec.params || []) {
      if (parameter.name === "scope") parameter.value = scope();
      if (parameter.name === "shown") parameter.value = shown();
    }
    try {
      const { view } = await vegaEmbed(element, spec, {
        mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, config,
        tooltip: showTip,
      });
      views.set(element, view);
      element.dataset.drawn = "yes";
      // The choice may have changed meanwhile.
      follow(element, "scope", scope());
      follow(element, "shown", shown());
    } catch (error) {
      console.error(element.dataset.figure, String(error));
      element.textContent = "This chart could not be drawn.";
    } finally {
      drawing.delete(element);
    }
  }

  function follow(element, name, value) {
    const view = views.get(element);
    if (!view || !(name in view.getState().signals)) return;
    view.signal(name, value).runAsync();
  }

  const charts = all(".chart");
  const rest = () => charts.filter((element) => !views.has(element) && fits(element) && visible(element));

  let working = false;
  async function drawAll() {
    if (working) return;
    working = true;
    delete root.dataset.drawn;
    for (let left = rest(); left.length; left = rest()) {
      for (const element of left) {
        await draw(element);
        if (!views.has(element)) views.set(element, null);
      }
    }
    working = false;
    root.dataset.drawn = "all";
  }

  function nameScope() {
    const name = chooser ? chooser.selectedOptions[0].textContent : "all there is";
    for (const element of all("[data-scope-name]")) element.textContent = name;
  }

  function chooseScope() {
    nameScope();
    for (const element of charts) if (fits(element)) follow(element, "scope", scope());
    drawAll();
    compare();
    // A chart that was hidden when the window changed has to measure its place again.
    dispatchEvent(new Event("resize"));
  }

  function chooseShown(event) {
    if (!shown().length) event.target.checked = true;
    for (const chip of chips) if (chip.value === event.target.value) chip.checked = event.target.checked;
    const now = shown();
    for (const element of charts) follow(element, "shown", now);
  }

  const pairs = document.getElementById("data-pairs");
  const source = document.getElementById("compare-source");
  const target = document.getElementById("compare-target");
  const table = pairs ? JSON.parse(pairs.textContent) : null;

  function compare() {
    if (!table) return;
    const [from, to] = [Number(source.value), Number(target.value)];
    const cells = table.pairs[`${scope()}:${from}:${to}`] || [];
    const percent = (share) => (100 * share).toFixed(1).replace("-", "\u2212");
    for (const place of all("[data-quantity]")) {
      const cell = cells.find(([quantity]) => table.quantities[quantity] === place.dataset.quantity);
      const known = cell && cell[1] !== null;
      place.textContent = known ? percent(cell[1]) : "\u2013";
      if (known && cell[2] !== null) {
        const interval = document.createElement("span");
        interval.className = "interval";
        interval.textContent = ` [${percent(cell[2])},\u00a0${percent(cell[3])}]`;
        place.append(interval);
      }
    }
  }

  function offerPairs() {
    if (!table) return;
    const have = Object.keys(table.pairs).map((key) => key.split(":").map(Number));
    const fill = (select, indices) => {
      const before = select.value;
      select.replaceChildren(...[...new Set(indices)].sort((a, b) => a - b).map((index) => {
        const option = document.createElement("option");
        option.value = String(index);
        option.textContent = table.names[index];
        return option;
      }));
      if ([...select.options].some((option) => option.value === before)) select.value = before;
    };
    fill(source, have.map(([, from]) => from));
    const targets = () => fill(target, have.filter(([, from]) => from === Number(source.value)).map(([, , to]) => to));
    targets();
    source.addEventListener("change", () => { targets(); compare(); });
    target.addEventListener("change", compare);
  }

  offerPairs();
  nameScope();
  compare();
  if (chooser) chooser.addEventListener("change", chooseScope);
  for (const chip of chips) chip.addEventListener("change", chooseShown);
  for (const details of all("details.more")) details.addEventListener("toggle", drawAll);
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  drawAll();
})();
