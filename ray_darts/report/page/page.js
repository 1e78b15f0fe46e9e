// Draws what the page's data hold: the table's order, one run with its cells, probabilities and curves, and times.
// Text from the data is only ever set as text; drawings are SVG that ray_darts made and escaped itself.

const ENDINGS = ["finished", "in progress", "lost or stopped", "machine lost", "process lost", "ended by itself", "failed"];
const MEMORY = `ray_darts ${location.pathname} ${document.title}`;
const dark = matchMedia("(prefers-color-scheme: dark)");

async function unpacked() {
  const bytes = Uint8Array.from(atob(find("#payload").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// What is open, and where, so that a page that is made again looks as before.
const memory = {
  state: JSON.parse(sessionStorage.getItem(MEMORY) ?? "{}"),
  set(name, value) {
    this.state[name] = value;
    sessionStorage.setItem(MEMORY, JSON.stringify(this.state));
  },
};

// ---- the table

function sortTable(table) {
  const heads = all("thead th", table);
  const body = find("tbody", table);
  const sort = (column, descending) => {
    const kind = heads[column].dataset.kind;
    const key = (row) => {
      const cell = row.children[column];
      if (kind === "t") return cell.textContent.trim();
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    const rows = [...body.rows].map((row, at) => ({ row, at, key: key(row) }));
    rows.sort((one, other) => {
      if (one.key === null || other.key === null) return (one.key === null) - (other.key === null) || one.at - other.at;
      const order = kind === "t" ? one.key.localeCompare(other.key, "en", { numeric: true }) : one.key - other.key;
      return (descending ? -order : order) || one.at - other.at;
    });
    body.append(...rows.map((each) => each.row));
    heads.forEach((head, at) => head.setAttribute("aria-sort", at === column ? (descending ? "descending" : "ascending") : "none"));
    memory.set("sort", [column, descending]);
  };
  heads.forEach((head, column) => {
    find("button", head).addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending"));
  });
  if (memory.state.sort) sort(...memory.state.sort);
}

// ---- one run

function cellPart(data, run) {
  const slider = run.slider;
  if (!slider) return element("p", {}, "No cell has been decoded yet.");
  const last = slider.drawings.length - 1;
  const drawing = element("div", { class: "drawing", role: "img", tabindex: "0" });
  const said = element("output", { for: "epoch" });
  const text = element("pre");
  const range = element("input", { type: "range", id: "epoch", min: 0, max: last, step: 1, "aria-label": "Epoch of the drawn cell" });
  const show = (at) => {
    const shown = data.drawings[slider.drawings[at]];
    const before = at > 0 ? data.drawings[slider.drawings[at - 1]] : null;
    const kept = new Set((before?.kept ?? []).map((edge) => edge.join(" ")));
    drawing.innerHTML = shown.svg;
    const changed = [];
    shown.kept.forEach((edge, number) => {
      const [cell, target, source, operation] = edge;
      const weight = slider.weights[at]?.[number] ?? null;
      const isNew = before !== null && !kept.has(edge.join(" "));
      if (isNew) changed.push(`${cell} ${source}→${target} ${operation}`);
      for (const group of all("g[data-cell]", drawing).filter((each) => each.dataset.cell === cell)) {
        for (const part of all(`[data-edge="${target}-${source}"]`, group)) {
          if (weight !== null && part.tagName === "path") part.setAttribute("stroke-width", 0.8 + weight / 130);
          if (isNew) part.classList.add("changed");
        }
      }
    });
    const epoch = slider.epochs[at];
    const where = epoch === null ? "the answer" : `epoch ${epoch}`;
    const what = before === null ? "" : changed.length ? `; new since the drawing before: ${changed.join(", ")}` : "; as in the drawing before";
    said.textContent = `${where}, after step ${slider.steps[at].toLocaleString("en")}${what}`;
    range.setAttribute("aria-valuetext", where);
    drawing.setAttribute("aria-label", `The cell that ${where} decodes to; its text follows`);
    text.textContent = shown.text;
  };
  const choose = () => {  // what the reader chose is kept by its epoch; at the end the page follows the run
    const at = Number(range.value);
    memory.set("epoch", at === last ? null : slider.epochs[at]);
    show(at);
  };
  range.addEventListener("input", choose);
  const move = (by) => { range.value = Number(range.value) + by; choose(); };
  const chosen = memory.state.epoch ?? null;
  const found = memory.state.run === run.run && chosen !== null ? slider.epochs.indexOf(chosen) : -1;
  const start = found === -1 ? last : found;
  range.value = start;
  const part = element("div", {},
    element("div", { class: "controls" },
      element("button", { type: "button", onclick: () => move(-1), "aria-label": "Earlier drawing" }, "‹"), range,
      element("button", { type: "button", onclick: () => move(1), "aria-label": "Later drawing" }, "›")),
    element("p", { class: "note" }, said),
    drawing,
    element("p", { class: "note" }, `The wider a line, the higher the probability of its operation; dashed: not in the drawing before. ${slider.drawings.length} drawings of ${slider.of} epochs.`),
    element("details", {}, element("summary", {}, "This cell as text"), text));
  show(start);
  return part;
}

async function alphaPart(place, run) {
  if (!run.alphas || !place.isConnected) return;
  const { steps, cells, stride, of, kept } = run.alphas;
  place.append(element("h3", {}, "Probabilities of operations, edge by edge"));
  place.append(element("p", { class: "note" }, `${kept < of ? `${kept.toLocaleString("en")} of ${of.toLocaleString("en")} steps are kept` : `${of.toLocaleString("en")} steps`}; ${stride > 1 ? `each stretch of ${stride} is drawn by its least and its greatest value` : "every one is drawn"}. An edge opens large.`));
  for (const cell of cells) {
    const names = [...cell.operations];
    const grid = element("div", { class: "grid" });
    place.append(element("h4", {}, `${cell.cell} cell`), legend(names), grid);
    for (const edge of cell.edges) {
      const series = Object.fromEntries(names.map((name, at) => [name, edge.values[at].map((value) => (value === null ? null : value / 1000))]));
      const used = names.filter((name) => series[name].some((value) => value !== null));
      const strongest = used.reduce((one, other) => (series[other].at(-1) > series[one].at(-1) ? other : one), used[0]);
      const tile = element("button", { type: "button", class: "tile", "aria-expanded": "false" }, `${edge.source} → ${edge.target}: ${strongest}`);
      const draw = (height) => {
        all(".plot, .note", tile).forEach((old) => old.remove());
        return lines(tile, { xs: steps, series, names: used, x: height > 100 ? "step" : null, y: null, height, legend: false, domain: [0, Math.max(0.3, ...used.flatMap((name) => series[name]))] });
      };
      tile.addEventListener("click", () => {
        const large = tile.classList.toggle("large");
        tile.setAttribute("aria-expanded", String(large));
        draw(large ? 360 : 90);
      });
      grid.append(tile);
      await draw(90);
      if (!place.isConnected) return;
    }
  }
}

const UNITS = { peak_memory_bytes: "bytes", steps_per_s: "steps a second", weight_learning_rate: "learning rate" };

function quantity(name) {
  return name === "alpha_step_loss" ? "loss" : name.replace(/^(train|validation)_/, "");
}

async function curvePart(place, run) {
  const { epoch, step, ...curves } = run.curves;
  const count = (name) => curves[name].filter((value) => value !== null).length;
  const names = Object.keys(curves).filter((name) => count(name) > 1 || epoch.length === 1);
  const single = Object.keys(curves).filter((name) => !names.includes(name));
  if (!names.length && !Object.keys(run.cells).some((name) => name !== "epoch")) return;
  const grid = element("div", { class: "wide" });
  place.append(element("h3", {}, "Curves"), grid);
  for (const what of new Set(names.map(quantity))) {
    if (!place.isConnected) return;
    const own = names.filter((name) => quantity(name) === what);
    await chart(grid, what.replaceAll("_", " "), (box) => lines(box, { xs: epoch, series: curves, names: own, x: "epoch", y: UNITS[what] ?? null }));
  }
  if (single.length) {
    const known = single.map((name) => {
      const at = curves[name].findIndex((value) => value !== null);
      return element("div", {}, element("dt", {}, `${name}, epoch ${epoch[at]}`), element("dd", {}, String(curves[name][at])));
    });
    place.append(element("dl", {}, ...known));
  }
  const { epoch: epochs, ...cells } = run.cells;
  for (const [fact, title] of [["entropy", "entropy of edges, nats"], ["margin", "least margin of a kept edge"], ["skips", "skip connections kept"], ["parameter_free", "operations without weights kept"]]) {
    const series = Object.fromEntries(Object.entries(cells).map(([cell, values]) => [cell, values[fact]]));
    if (Object.keys(series).length && place.isConnected) await chart(grid, title, (box) => lines(box, { xs: epochs, series, names: Object.keys(series), x: "epoch", y: null }));
  }
}

async function openRun(data, name, scroll) {
  const run = data.runs.find((each) => each.run === name);
  if (!run) return;
  if (memory.state.run !== name) { memory.set("run", name); memory.set("epoch", null); }
  all("#table tbody tr").forEach((row) => row.classList.toggle("chosen", row.dataset.run === name));
  all("#table .open").forEach((button) => button.setAttribute("aria-current", String(button.textContent === name)));
  const detail = element("div", {}, element("h3", { id: "run-name", tabindex: "-1" }, name));
  find("#detail").replaceChildren(detail);  // what is still drawn of a run that was open before goes with it
  if (run.problems.length) detail.append(element("ul", { class: "warnings" }, ...run.problems.map((text) => element("li", {}, text))));
  if (run.warnings.length) detail.append(element("ul", { class: "warnings", "aria-label": "Warnings" }, ...run.warnings.slice(-20).map(([epoch, text]) => element("li", {}, `epoch ${epoch}: ${text}`))));
  detail.append(cellPart(data, run));
  if (scroll) { find("#run").scrollIntoView({ block: "start" }); find("#run-name").focus({ preventScroll: true }); }
  await curvePart(detail, run);
  await alphaPart(detail, run);
}

// ---- all runs

function timeline(data) {
  const values = data.runs.flatMap((run) => run.terms.map((term) => ({ ...term, run: run.run, command: term.session.slice(0, 8) })));
  const place = find("#timeline");
  place.replaceChildren();
  if (!values.length) return null;
  const runs = [...new Set(values.map((term) => term.run))];
  const spec = {
    height: 70 + runs.length * Math.max(8, Math.min(22, 900 / runs.length)), data: { values },
    mark: { type: "bar", cornerRadius: 2, tooltip: true, minBandSize: 6 },
    encoding: {
      y: { field: "run", type: "nominal", sort: runs, title: null, axis: runs.length > 60 ? null : { labelLimit: Math.min(240, innerWidth / 3) } },
      x: { field: "began", type: "temporal", title: "time", axis: { grid: false, tickCount: 5 } }, x2: { field: "ended" },
      color: { field: "ending", type: "nominal", scale: { domain: ENDINGS, range: ["#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#a65628", "#666666", "#d55e00"] }, legend: { title: "how a start ended", columns: 2 } },
      stroke: { value: style("--paper") },
      tooltip: ["run", "term", "host", "command", "instance_type", "first_step", "last_step", "ending"].map((field) => ({ field })),
    },
  };
  return plot(place, spec, `Who held each of ${runs.length} runs and when: ${values.length} starts; the table below has the same`);
}

async function trainingCurves(data) {
  const place = find("#training-curves");
  place.replaceChildren();
  const names = new Set(data.trainings.flatMap((run) => Object.keys(run.curves)).filter((name) => name.startsWith("validation_")));
  const grid = element("div", { class: "wide" });
  place.append(grid);
  for (const name of names) {
    const values = data.trainings.flatMap((run) => (run.curves[name] ?? []).map((y, at) => ({ x: run.curves.epoch[at], y, name: run.run })).filter((row) => row.y !== null));
    const runs = [...new Set(values.map((row) => row.name))];
    const { color, strokeDash } = scales(runs);
    const hidden = runs.length > 12 ? { legend: null } : { legend: { title: null, columns: 1 } };
    const spec = {
      height: 220, data: { values }, mark: { type: "line", strokeWidth: 1.6, tooltip: true, point: { size: 16 } },
      encoding: {
        x: { field: "x", type: "quantitative", title: "epoch", axis: { grid: false } },
        y: { field: "y", type: "quantitative", title: null, scale: { zero: false } },
        color: { ...color, ...hidden }, strokeDash: { ...strokeDash, ...hidden },
        tooltip: [{ field: "name", title: "run" }, { field: "x", title: "epoch" }, { field: "y", title: name }],
      },
    };
    await chart(grid, name.replaceAll("_", " "), (box) => plot(box, spec, `${name} of ${runs.length} trainings`));
  }
}

// ---- a page that is made again

function follow(data) {
  if (!data.refresh_s) return;
  setInterval(async () => {
    if (find("input:active, button:active, tr:active")) return;
    if (location.protocol !== "file:") {
      const reply = await fetch(location.href, { method: "HEAD", cache: "no-store" }).catch(() => null);
      if (!reply?.ok || reply.headers.get("ETag") === `"${data.tag}"`) return;
    }
    memory.set("scroll", scrollY);
    location.reload();
  }, Math.max(1, data.refresh_s) * 1000);
}

async function main() {
  history.scrollRestoration = "manual";
  const data = await unpacked();
  const table = find("#table");
  if (table) {
    sortTable(table);
    table.addEventListener("click", (event) => {
      const row = event.target.closest("tbody tr");
      if (row) openRun(data, row.dataset.run, true);
    });
  }
  const draw = async () => {
    const known = data.runs.some((run) => run.run === memory.state.run);
    const first = known ? memory.state.run : find("#table tbody tr")?.dataset.run;
    await timeline(data);
    await trainingCurves(data);
    if (first !== undefined) await openRun(data, first, false);
  };
  await draw();
  if (memory.state.scroll) { scrollTo(0, memory.state.scroll); memory.set("scroll", 0); }
  dark.addEventListener("change", draw);
  document.documentElement.dataset.ready = "true";
  follow(data);
}

main().catch((error) => {
  const said = element("p", { class: "warnings", role: "alert" }, `This browser cannot draw the page: ${error}. It needs DecompressionStream (Chrome 80, Firefox 113, Safari 16.4 or newer).`);
  find("main").prepend(said);
  document.documentElement.dataset.ready = "failed";
});
