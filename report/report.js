(() => {
  "use strict";
  const main = document.getElementById("report");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // Charts. Colours of text are the page's own, so that a theme or the printer changes them.
  const font = "system-ui, sans-serif";
  const soft = { gridColor: "currentColor", gridOpacity: 0.14, domainColor: "currentColor", domainOpacity: 0.5,
    tickColor: "currentColor", tickOpacity: 0.5, labelColor: "currentColor", titleColor: "currentColor",
    labelFont: font, titleFont: font, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, titlePadding: 8 };
  const config = { background: null, axis: soft, text: { font, fontSize: 11 }, axisBand: { grid: false }, view: { stroke: null },
    title: { color: "currentColor", font, fontSize: 13, anchor: "start", offset: 12 },
    autosize: { type: "fit-x", contains: "padding" } };

  const swatch = ({ colour, shape, filled }) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "-1.5 -1.5 3 3");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", shape);
    path.setAttribute("fill", filled ? colour : "none");
    path.setAttribute("stroke", colour);
    svg.append(path);
    return svg;
  };

  const draw = async (figure, { legend, panels, width }) => {
    const places = panels.map(() => make("div", { class: "plot" }));
    const grid = make("div", { class: "panels", style: `--panel: ${width}px` });
    grid.append(...places.map((place) => make("div", { class: "panel" }, place)));
    const list = make("ul", { class: "legend", "aria-label": main.dataset.legend });
    figure.prepend(list, grid);
    figure.classList.add("drawn");
    const options = { renderer: "svg", actions: false, config, tooltip: { theme: "custom" } };
    const views = (await Promise.all(panels.map((spec, i) => vegaEmbed(places[i], spec, options))))
      .map((result) => result.view);
    const hidden = new Set();
    for (const look of legend) {
      const button = make("button", { type: "button", "aria-pressed": "true" }, swatch(look), look.series);
      button.addEventListener("click", () => {
        if (!hidden.delete(look.series)) hidden.add(look.series);
        button.setAttribute("aria-pressed", String(!hidden.has(look.series)));
        for (const view of views) view.signal("hidden", [...hidden]).runAsync();
      });
      list.append(make("li", {}, button));
    }
  };

  for (const figure of document.querySelectorAll("figure.empty")) {
    figure.prepend(make("p", {}, main.dataset.empty));
  }
  const charts = JSON.parse(document.getElementById("charts").textContent);
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    draw(figure, charts[figure.dataset.chart]).catch((error) => {
      figure.classList.remove("drawn");
      figure.querySelectorAll(".legend, .panels").forEach((part) => part.remove());
      console.error(error);
    });
  }

  // Tables: a column is of numbers if all that its cells begin with is one, in brackets or not.
  const number = (text) => Number.parseFloat(text.replace(/^[[(]/, "").replace(/,/g, "").replace(/\u2212/g, "-"));
  const empty = (text) => text === "" || text === "\u2013";
  const compare = (rows, column) => {
    const texts = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
    const numeric = [...texts.values()].every((text) => empty(text) || !Number.isNaN(number(text)));
    const values = numeric ? (row) => number(texts.get(row)) : (row) => texts.get(row);
    return (sign) => (a, b) => {
      if (empty(texts.get(a)) || empty(texts.get(b))) return empty(texts.get(a)) - empty(texts.get(b));
      const [left, right] = [values(a), values(b)];
      return sign * (numeric ? left - right : left.localeCompare(right, undefined, { numeric: true }));
    };
  };

  for (const table of main.querySelectorAll("table")) {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 2) continue;
    const original = [...body.rows];
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = make("button", { type: "button", title: `${main.dataset.sort} ${header.textContent}` });
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const next = { undefined: "ascending", ascending: "descending" }[header.getAttribute("aria-sort") ?? undefined];
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        const by = compare(original, column);
        const sorted = next ? [...original].sort(by(next === "ascending" ? 1 : -1)) : original;
        if (next) header.setAttribute("aria-sort", next);
        body.append(...sorted);
      });
    });
  }

  // Contents: folded where it would cover the page; the section being read is marked.
  const contents = document.querySelector("nav details");
  const wide = window.matchMedia("(min-width: 75rem)");
  const fold = () => { contents.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) contents.open = false;
  });
  const links = [...contents.querySelectorAll("a")];
  const targets = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  const mark = () => {
    const current = targets.findLastIndex((target) => target && target.getBoundingClientRect().top < 120);
    links.forEach((link, i) => link.toggleAttribute("aria-current", i === current));
  };
  document.addEventListener("scroll", mark, { passive: true });
  mark();

  // On paper everything is unfolded.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...main.querySelectorAll("details:not([open])")];
    folded.forEach((details) => { details.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((details) => { details.open = false; }));
})();
