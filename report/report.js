(() => {
  "use strict";
  const main = document.getElementById("report");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const options = { renderer: "svg", actions: false, tooltip: { theme: "custom" } };

  // Charts. Panels stand in as many columns as there is room for, each as wide as they leave.
  const fitted = (chart, room) => {
    const spec = structuredClone(chart);
    const { most, narrowest, beside, widest } = spec.usermeta;
    spec.columns = Math.max(1, Math.min(most, Math.floor(room / narrowest)));
    const width = Math.min(Math.floor(room / spec.columns), widest) - beside;
    for (const panel of spec.concat) panel.width = width;
    spec.config.params.find((param) => param.name === "room").value = room;
    return spec;
  };

  // Entries of legends are buttons, of the keyboard too.
  const withButtons = (place, view, params) => {
    for (const legend of place.querySelectorAll(".role-legend")) {
      legend.setAttribute("role", "group");
      legend.setAttribute("aria-label", main.dataset.legend);
    }
    const entries = [...place.querySelectorAll(".role-legend-symbol")].map((symbol) => symbol.closest("g[transform]"));
    const say = () => {
      const chosen = params.flatMap(({ name }) => Object.values(view.signal(name) ?? {}).flat());
      for (const entry of entries) entry.setAttribute("aria-pressed", String(chosen.includes(entry.textContent)));
    };
    for (const entry of entries) {
      entry.setAttribute("role", "button");
      entry.setAttribute("tabindex", "0");
      entry.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        entry.querySelector("path").dispatchEvent(new MouseEvent("click", { bubbles: true }));
      });
    }
    for (const { name } of params) view.addSignalListener(name, say);
    say();
  };

  const draw = (figure, chart) => {
    const place = make("div", { class: "chart" });
    figure.prepend(place);
    figure.classList.add("drawn");
    let room, drawn;
    const fit = async () => {
      if (!place.clientWidth || room === place.clientWidth) return;
      room = place.clientWidth;
      drawn?.finalize();
      drawn = await vegaEmbed(place, fitted(chart, room), options);
      withButtons(place, drawn.view, chart.params);
    };
    let waiting;
    new ResizeObserver(() => {
      clearTimeout(waiting);
      waiting = setTimeout(fit, 100);
    }).observe(place);
    return fit();
  };

  for (const figure of document.querySelectorAll("figure.empty")) {
    figure.prepend(make("p", {}, main.dataset.empty));
  }
  const charts = JSON.parse(document.getElementById("charts").textContent);
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    draw(figure, charts[figure.dataset.chart]).catch((error) => {
      figure.classList.remove("drawn");
      figure.querySelector(".chart").remove();
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
