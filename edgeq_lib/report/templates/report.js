// Links the table of all files with the charts: sorting, filters, hover, keyboard and pin.
const report = JSON.parse(document.getElementById("report-data").textContent);
const table = document.getElementById("files");
const body = table.tBodies[0];
const lines = new Map([...body.rows].map((line) => [line.dataset.name, line]));
const rows = new Map(report.rows.map((row) => [row.name, row]));
const plots = [];  // one per chart: box, tip, view, points
const GAP = 18;  // pixels between a point and what is told of it
const state = { hovered: null, pinned: null, at: null };  // `at` is the chart whose hover is shown
let left = new Set(rows.keys());  // names that the filter leaves

// --- filters ---
const search = document.getElementById("search");
const meets = document.getElementById("meets");
const chips = [...document.querySelectorAll(".chip")];
const reset = document.getElementById("reset");

function filter() {
  const text = search.value.trim().toLowerCase();
  const pressed = new Set(chips.filter((chip) => chip.getAttribute("aria-pressed") === "true")
    .map((chip) => chip.dataset.technique));
  const fits = (row) => row.name.toLowerCase().includes(text)
    && (!pressed.size || pressed.has(row.technique)) && (!meets?.checked || row.meets);
  left = new Set(report.rows.filter(fits).map((row) => row.name));
  if (!left.has(state.pinned)) state.pinned = null;
  reset.hidden = !(text || pressed.size || meets?.checked);
  document.getElementById("left").value = `${left.size} of ${rows.size} files`;
  showLeft(left);
  highlight(null);
}

function showLeft(names) {
  for (const [name, line] of lines) line.hidden = !names.has(name);
  document.querySelector(".nothing").hidden = names.size > 0;
  oneTabStop();
  const shown = names.size < rows.size ? [...names] : null;
  for (const plot of plots) plot.view.signal("shown", shown).run();
}

search.addEventListener("input", filter);
meets?.addEventListener("change", filter);
for (const chip of chips) {
  chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
    filter();
  });
}
reset.addEventListener("click", () => {
  search.value = "";
  if (meets) meets.checked = false;
  for (const chip of chips) chip.setAttribute("aria-pressed", false);
  filter();
  search.focus();
});

// --- sorting ---
const order = new Intl.Collator("en", { numeric: true }).compare;

function sortBy(heading, descending) {
  const { key } = heading.dataset;
  const sorted = report.rows.map((row) => row.name).sort((one, other) => {
    const [a, b] = [rows.get(one).sort[key], rows.get(other).sort[key]];
    // What was not measured comes last, whatever the direction.
    if (a === null || b === null) return (a === null) - (b === null);
    const compared = typeof a === "number" ? a - b : order(a, b);
    return descending ? -compared : compared;
  });
  body.append(...sorted.map((name) => lines.get(name)));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  oneTabStop();
}

for (const heading of table.tHead.rows[0].cells) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const sorted = heading.getAttribute("aria-sort");
    sortBy(heading, sorted ? sorted === "ascending" : "descending" in heading.dataset);
  });
}

// --- hover and pin ---
function highlight(name, plot = null) {
  state.hovered = name;
  state.at = plot ?? (name ? null : state.at);
  show();
}

function pin(name, plot = null) {
  state.pinned = state.pinned === name ? null : name;
  state.hovered = null;
  state.at = plot;
  show();
}

function show() {
  const active = state.hovered ?? state.pinned;
  for (const [name, line] of lines) {
    line.classList.toggle("active", name === active);
    line.classList.toggle("pinned", name === state.pinned);
    if (name === state.pinned) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  }
  // What is pinned in the table is told in the first chart that has it; a hovered row tells itself.
  const first = plots.find((plot) => plot.points.has(active));
  const holder = state.at ?? (state.hovered ? null : first);
  for (const plot of plots) {
    plot.view.signal("active", active).run();
    plot.tip.hidden = plot !== holder || !plot.points.has(active);
    if (!plot.tip.hidden) tell(plot, active);
  }
}

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function tell({ tip, box, view, points }, name) {
  const facts = document.createElement("dl");
  for (const [label, text] of rows.get(name).hover) {
    facts.append(element("dt", label), element("dd", text));
  }
  tip.replaceChildren(element("b", name), facts);
  const [x, y] = position(view, points.get(name));
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const within = (start, room) => Math.max(0, Math.min(start, room));
  const side = x + GAP + width <= box.clientWidth ? x + GAP : x - GAP - width;
  const above = y - GAP - height;
  if (side >= 0) {
    tip.style.left = `${side}px`;
    tip.style.top = `${within(y - height / 2, box.clientHeight - height)}px`;
  } else {  // no room on either side
    tip.style.left = `${within(x - width / 2, box.clientWidth - width)}px`;
    tip.style.top = `${above > -height / 2 ? above : y + GAP}px`;
  }
}

// Pixels of a point within its chart; files that collapsed sit on the lower edge.
function position(view, point) {
  const [left0, top0] = view.origin();
  const lowest = view.height() - 0.625 * view.signal("edge");
  const y = point.y === null ? lowest : view.scale("y")(point.y);
  return [view.scale("x")(point.x) + left0, y + top0];
}

const isTouch = (event) => event.pointerType === "touch";

// The file within reach of the pointer, if any.
function nearest({ view, points, box }, event) {
  const frame = box.getBoundingClientRect();
  let [best, least] = [null, isTouch(event) ? 34 : 22];
  for (const [name, point] of points) {
    if (!left.has(name)) continue;
    const [x, y] = position(view, point);
    const away = Math.hypot(event.clientX - frame.left - x, event.clientY - frame.top - y);
    if (away < least) [best, least] = [name, away];
  }
  return best;
}

for (const [name, line] of lines) {
  line.addEventListener("pointerenter", (event) => isTouch(event) || highlight(name));
  line.addEventListener("pointerleave", (event) => isTouch(event) || highlight(null));
  line.addEventListener("focus", () => highlight(name));
  line.addEventListener("blur", () => highlight(null));
  line.addEventListener("click", () => getSelection().isCollapsed && pin(name));
}

// --- keyboard: one row is in the tab order, arrows move between rows ---
const visible = () => [...body.rows].filter((line) => !line.hidden);

function oneTabStop() {
  for (const line of body.rows) line.tabIndex = -1;
  const first = visible()[0];
  if (first) first.tabIndex = 0;
}

body.addEventListener("keydown", (event) => {
  const line = event.target.closest("tr");
  const among = visible();
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    const next = among[among.indexOf(line) + step];
    if (next) {
      line.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
  } else if (event.key === "Enter" || event.key === " ") pin(line.dataset.name);
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && (state.pinned || state.hovered)) pin(state.pinned);
});

function walk(plot, event) {
  const names = [...plot.points.keys()].filter((name) => left.has(name));
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const active = state.hovered ?? state.pinned;
  if (step && names.length) {
    const index = names.indexOf(active);
    highlight(names[index < 0 ? 0 : (index + step + names.length) % names.length], plot);
  } else if ((event.key === "Enter" || event.key === " ") && active) pin(active, plot);
  else return;
  event.preventDefault();
}

// --- charts ---
async function draw(box) {
  const spec = report.charts[box.dataset.field];
  const target = box.querySelector(".plot");
  spec.width = target.clientWidth;
  const options = { mode: "vega", renderer: "svg", actions: false, tooltip: false };
  const { view } = await window.vegaEmbed(target, spec, options);
  const sorted = [...spec.data[0].values].sort((one, other) => one.x - other.x);
  const points = new Map(sorted.map((point) => [point.name, point]));
  const plot = { box, tip: box.querySelector(".tip"), view, points };
  plots.push(plot);
  new ResizeObserver(() => {
    if (!target.clientWidth || matchMedia("print").matches) return;
    view.width(target.clientWidth).run();
    show();
  }).observe(target);
  box.addEventListener("pointermove", (event) => {
    if (isTouch(event)) return;
    const name = nearest(plot, event);
    box.classList.toggle("near", name !== null);
    if (name !== state.hovered || plot !== state.at) highlight(name, name && plot);
  });
  box.addEventListener("pointerleave", (event) => isTouch(event) || highlight(null));
  box.addEventListener("click", (event) => {
    const name = nearest(plot, event);
    if (name) pin(name, plot);
    else if (state.pinned) pin(state.pinned);
  });
  box.addEventListener("keydown", (event) => walk(plot, event));
  box.addEventListener("blur", () => highlight(null));
}

document.querySelector(".controls").hidden = false;
for (const hidden of document.querySelectorAll(".charts, .legend, .help")) hidden.hidden = false;
oneTabStop();
await Promise.all([...document.querySelectorAll(".chart")].map(draw));
document.documentElement.dataset.ready = "true";

// --- print: every file, nothing pinned ---
addEventListener("beforeprint", () => {
  showLeft(new Set(rows.keys()));
  for (const plot of plots) plot.view.signal("active", null).run();
});
addEventListener("afterprint", () => {
  showLeft(left);
  show();
});
