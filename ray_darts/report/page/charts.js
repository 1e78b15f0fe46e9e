// Charts of the page: a specification for Vega-Lite from series of numbers, drawn as SVG with a text beside it.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#7f7f7f"];
const DASHES = [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2]];

const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function config() {
  const ink = style("--ink"), quiet = style("--quiet"), rule = style("--rule");
  return {
    background: null, font: "system-ui, sans-serif",
    axis: { labelColor: quiet, titleColor: ink, gridColor: rule, domainColor: rule, tickColor: rule, gridOpacity: 0.5, titleFontWeight: "normal" },
    legend: { labelColor: ink, titleColor: ink, orient: "bottom", columns: 3, labelLimit: 220 },
    view: { stroke: null }, aria: false,
  };
}

function scales(names) {
  return {
    color: { field: "name", type: "nominal", scale: { domain: names, range: names.map((_, at) => COLOURS[at % COLOURS.length]) } },
    strokeDash: { field: "name", type: "nominal", scale: { domain: names, range: names.map((_, at) => DASHES[Math.floor(at / COLOURS.length) % DASHES.length]) } },
  };
}

function plot(place, spec, described) {
  const target = element("div", { class: "plot" });
  place.append(target, element("span", { class: "note", hidden: "" }, described));
  target.setAttribute("role", "img");
  target.setAttribute("aria-label", described);
  const whole = { width: "container", autosize: { type: "fit", contains: "padding", resize: true }, config: config(), ...spec };
  return vegaEmbed(target, whole, { actions: false, renderer: "svg" })
    .then(() => find("svg", target).setAttribute("aria-hidden", "true"), (error) => target.append(String(error)));
}

// names: of the series; values: {name: [..]} beside xs.
function lines(place, { xs, series, names, x, y, height = 180, legend = true, domain = null }) {
  const values = names.flatMap((name) => series[name].map((value, at) => ({ x: xs[at], y: value, name })).filter((row) => row.y !== null));
  const { color, strokeDash } = scales(names);
  const shown = legend && names.length > 1 && names.length <= 12 ? { title: null } : null;
  const spec = {
    height, data: { values },
    mark: { type: "line", strokeWidth: 1.6, point: xs.length < 3 ? { size: 30 } : false, tooltip: true, interpolate: "linear" },
    encoding: {
      x: { field: "x", type: "quantitative", title: x, axis: { tickCount: 5, grid: false } },
      y: { field: "y", type: "quantitative", title: y, scale: domain ? { domain } : { zero: false }, axis: { tickCount: 4, format: domain ? ".1f" : "~g" } },
      color: { ...color, legend: shown }, strokeDash: { ...strokeDash, legend: shown },
      tooltip: [{ field: "name", title: " " }, { field: "x", title: x }, { field: "y", title: y ?? "value", format: ".4~g" }],
    },
  };
  const described = names.map((name) => summary(name, series[name])).join("; ");
  return plot(place, spec, described);
}

function summary(name, values) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return `${name}: no value`;
  const digits = (value) => Number(value.toPrecision(4));
  return `${name}: from ${digits(known[0])} to ${digits(known.at(-1))}, least ${digits(Math.min(...known))}, greatest ${digits(Math.max(...known))}`;
}

function chart(place, title, draw) {
  const box = element("div", { class: "chart" }, element("h4", {}, title));
  place.append(box);
  return draw(box);
}

function legend(names) {
  const { color, strokeDash } = scales(names);
  const items = names.map((name, at) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    line.setAttribute("width", "26");
    line.setAttribute("height", "10");
    line.setAttribute("aria-hidden", "true");
    const stroke = document.createElementNS("http://www.w3.org/2000/svg", "path");
    stroke.setAttribute("d", "M0 5H26");
    stroke.setAttribute("stroke", color.scale.range[at]);
    stroke.setAttribute("stroke-width", "3");
    stroke.setAttribute("stroke-dasharray", strokeDash.scale.range[at].join(" "));
    line.append(stroke);
    return element("li", {}, line, name);
  });
  return element("ul", { class: "legend", "aria-label": "Operations" }, ...items);
}
