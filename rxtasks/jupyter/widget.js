// Draws a card (rxtasks/jupyter/card.py) and draws it anew when it changes. Texts come from tasks: they are only ever set
// as textContent. Nothing is loaded from anywhere.

const BAR = 1000;

function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bar(fraction) {
  const made = element("progress", "rxtasks-bar");
  made.max = BAR;
  made.value = Math.round(BAR * fraction);
  return made;
}

function head(card) {
  const made = element("div", "rxtasks-head");
  made.append(element("b", "", card.title));
  if (card.status) {
    const badge = element("span", "rxtasks-badge", card.status);
    badge.dataset.status = card.status;
    made.append(badge);
  }
  if (card.fraction !== null) made.append(bar(card.fraction));
  if (card.measure) made.append(element("span", "rxtasks-measure", card.measure));
  return made;
}

function facts(pairs) {
  const made = element("div", "rxtasks-facts");
  for (const [name, value] of pairs) {
    const fact = element("span", "rxtasks-fact");
    fact.append(element("span", "rxtasks-name", name), element("span", "", value));
    made.append(fact);
  }
  return made;
}

function table(columns, rows) {
  const made = element("table", "rxtasks-table");
  const top = element("tr");
  for (const name of columns) top.append(element("th", "", name));
  made.append(top);
  const status = columns.indexOf("status");
  for (const row of rows) {
    const line = element("tr");
    row.cells.forEach((text, at) => {
      const cell = element("td", "", text);
      if (at === status) cell.dataset.status = text;
      line.append(cell);
    });
    if (row.fraction !== null) {
      const cell = element("td");
      cell.append(bar(row.fraction));
      line.append(cell);
    }
    made.append(line);
  }
  return made;
}

function log(lines) {
  const made = element("div", "rxtasks-lines");
  for (const { level, text } of lines) {
    const line = element("div");
    const word = element("span", "rxtasks-level", level);
    word.dataset.status = level.toLowerCase();
    line.append(word, element("span", "", text));
    made.append(line);
  }
  return made;
}

function draw(place, card) {
  const parts = [head(card)];
  if (card.facts.length) parts.push(facts(card.facts));
  if (card.rows.length) parts.push(table(card.columns, card.rows));
  if (card.lines.length) parts.push(log(card.lines));
  place.replaceChildren(...parts);
}

function render({ model, el }) {
  const place = element("div", "rxtasks-card");
  el.append(place);
  const redraw = () => draw(place, model.get("card"));
  redraw();
  model.on("change:card", redraw);
  return () => model.off("change:card", redraw);
}

export default { render };
