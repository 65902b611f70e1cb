// The controls of the page: they change the question, `solve` of live_model.js ranks the candidates again.
(() => {
  const data = JSON.parse(document.getElementById("live-data").textContent);
  const place = document.getElementById("live-controls");
  const start = plannedState(data), state = structuredClone(start);
  const LISTED = 8, DRAWN = 400, OCTAVES = 2;
  const COLOURS = ["#0f8a73", "#e08214", "#4c78a8", "#cc5a71", "#b8a000", "#7b61a8", "#56b4e9", "#8a8d91"];

  function made(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value); else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  const tidy = (value) => +value.toPrecision(3);
  const money = (value) => isNaN(value) ? "–" : "$" + (value < 100 ? value.toFixed(2) : Math.round(value).toLocaleString("en"));
  const number = (value) => !isFinite(value) ? "–" : Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : String(tidy(value));
  const percent = (share) => share > 0.99 && share < 1 ? "> 99 %" : share < 0.01 && share > 0 ? "< 1 %" : Math.round(100 * share) + " %";

  const resets = [];
  let serial = 0;
  // A number with a slider beside it. get, set: of the state. spread: the slider multiplies by up to 4; else from low to high.
  function control(label, unit, get, set, { low, high, step, whole } = {}) {
    const id = "live-" + serial++, planned = get(), ranged = low !== undefined;
    const field = made("input", { id, type: "number", step: "any", min: ranged ? low : "0", inputmode: "decimal" });
    const slide = made("input", { type: "range", "aria-label": label + ", slider",
      ...(ranged ? { min: low, max: high, step } : { min: -OCTAVES, max: OCTAVES, step: 0.05 }) });
    const show = () => {
      const value = get();
      field.value = isNaN(value) ? "" : value;
      slide.value = ranged ? value : Math.log2(value / planned) || 0;
      box.classList.toggle("moved", value !== planned && !(isNaN(value) && isNaN(planned)));
    };
    field.addEventListener("change", () => {
      const value = parseFloat(field.value);
      const good = isFinite(value) && (ranged ? value >= low && value <= high : value > 0);
      set(good ? (whole ? Math.max(1, Math.round(value)) : value) : planned);
      show();
      update();
    });
    slide.addEventListener("input", () => {
      const at = parseFloat(slide.value);
      const value = ranged ? tidy(at) : at === 0 ? planned : tidy(planned * 2 ** at);
      set(whole ? Math.max(1, Math.round(value)) : value);
      show();
      update();
    });
    const box = made("div", { class: "control" }, made("label", { for: id }, label),
      made("span", { class: "entry" }, field, made("span", { class: "unit" }, unit)), isNaN(planned) ? "" : slide);
    resets.push(show);
    show();
    return box;
  }

  function offeredBox(device, i) {
    const tick = made("input", { type: "checkbox", onchange: () => { state.offered[i] = tick.checked; update(); } });
    resets.push(() => { tick.checked = state.offered[i]; });
    tick.checked = true;
    return made("label", { class: "tick" }, tick, " " + device.name);
  }

  const item = (name, i) => [() => state[name][i], (value) => { state[name][i] = value; }];
  const whole = (name) => [() => state[name], (value) => { state[name] = value; }];
  const asked = made("fieldset", {}, made("legend", {}, "Service"));
  data.objectives.forEach((o, i) => asked.append(control(o.label + " at most", "ms", ...item("limits", i))));
  if (data.kind === "open" || data.kind === "closed") {
    asked.append(control("Load", data.kind === "open" ? "requests/s" : "in flight", ...whole("load"), { whole: data.kind === "closed" }));
  }
  if (data.objectives.length) asked.append(control("Confidence", "", ...whole("confidence"), { low: 0.05, high: 0.95, step: 0.01 }));
  const paid = made("fieldset", {}, made("legend", {}, "Prices and site"));
  data.devices.forEach((d, i) => paid.append(control(d.name, d.owned ? "$/h, owned" : "$/h", ...item("prices", i))));
  paid.append(control("PUE", "", ...whole("pue"), { low: 1, high: 2.5, step: 0.01 }));
  if (!isNaN(data.usd_per_kwh) && data.usd_per_kwh > 0) paid.append(control("Electricity", "$/kWh", ...whole("usd_per_kwh")));
  const offered = made("fieldset", {}, made("legend", {}, "Devices on offer"), ...data.devices.map(offeredBox));

  const says = made("p", { class: "live-answer", role: "status", "aria-live": "polite" });
  const exact = made("div", { class: "live-exact" });
  const table = made("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Best candidates for the changed question" });
  const axis = made("select", { id: "live-axis", onchange: () => window.drawLive() });
  const measures = [...data.objectives.map((o, i) => ({ label: o.label, value: (r) => r.bounds[i], limit: () => state.limits[i] })),
    { label: "mean TTFT", value: (r) => r.ttft_ms }, { label: "mean TPOT", value: (r) => r.tpot_ms },
    { label: "mean end-to-end latency", value: (r) => r.e2e_ms }];
  measures.forEach((m, i) => axis.append(made("option", { value: i }, m.label)));
  const drawnAgainst = made("span", { class: "on-paper" });  // the name of the axis, where the control is not printed
  const chart = made("div", { class: "chart", id: "chart-live", role: "img" });
  const described = made("p", { class: "lead", id: "live-described" });
  const reset = made("button", { type: "button", class: "reset", onclick: () => {
    Object.assign(state, structuredClone(start));
    resets.forEach((show) => show());
    update();
  } }, "As planned");
  place.append(made("div", { class: "controls" }, asked, paid, data.devices.length > 1 ? offered : "", reset),
    made("div", { class: "card" }, says, exact, table),
    made("div", { class: "card" }, made("h3", {}, made("label", { for: "live-axis" }, "Cost against "), axis, drawnAgainst), chart, described));

  let found = { rows: [], doubts: [] };
  const cost = () => found.rows.some((r) => isFinite(r.usd_per_hour)) ? ["usd_per_hour", "$ per hour"] : ["power_w", "W"];

  function quoted(text) {
    return /^[\w.,:=/+-]+$/.test(text) ? text : "'" + text.replaceAll("'", "'\\''") + "'";
  }

  function command() {
    return ["perfmodel whatif", quoted(data.scenario), ...changesOf(data, state).map((c) => "--set " + quoted(c))].join(" ");
  }

  function answer() {
    const best = found.rows[0];
    if (!best) return state.offered.some(Boolean) ? "Nothing in this page meets the changed request." : "No device is left on offer.";
    const was = plannedAnswer, now = best.usd_per_hour;
    const same = best.name === was?.name, planned = !changesOf(data, state).length;
    let text = (planned ? "As planned: " : same ? "The answer stays " : "Take ") + best.name + (planned ? ", " : ": ") + money(now) + " per hour";
    if (was && isFinite(was.usd_per_hour) && Math.abs(now / was.usd_per_hour - 1) > 5e-4) {
      const change = 100 * (now / was.usd_per_hour - 1);
      text += ` (${change > 0 ? "+" : "-"}${Math.abs(change).toFixed(0)} % against ${money(was.usd_per_hour)} as planned)`;
    }
    text += `, ${number(best.devices)} device${best.devices === 1 ? "" : "s"}, ${number(best.power_w / 1e3)} kW`;
    if (data.objectives.length) text += `; all bounds are kept with a chance of ${percent(best.slo_chance)}`;
    return text + ".";
  }

  function listed() {
    const heads = ["Rank", "Configuration", "$ per hour", "Devices", "Power kW", ...data.objectives.map((o) => o.label + " ms"),
      ...(data.objectives.length ? ["Sure %"] : ["Mean TTFT ms"])];
    const cells = (r, i) => [i + 1, r.label, money(r.usd_per_hour).replace("$", ""), number(r.devices), number(r.power_w / 1e3),
      ...r.bounds.map(number), data.objectives.length ? Math.round(100 * r.slo_chance) : number(r.ttft_ms)];
    const kind = (i) => i === 1 ? {} : { class: i === 4 || (i > 4 && i < heads.length - 1) ? "number more" : "number" };
    const line = (tag, texts) => made("tr", {}, ...texts.map((t, i) => made(tag, kind(i), String(t))));
    const body = made("tbody", {}, ...found.rows.slice(0, LISTED).map((r, i) => line("td", cells(r, i))));
    if (body.rows.length) body.rows[0].className = "chosen";
    return made("table", { id: "live-table" }, made("thead", {}, line("th", heads)), body);
  }

  function update() {
    found = solve(data, state);
    const changed = changesOf(data, state).length > 0;
    says.textContent = answer();
    exact.replaceChildren();
    if (!changed) exact.append(made("span", { class: "chip" }, "as planned"));
    else if (!found.doubts.length) exact.append(made("span", { class: "chip good" }, "as the tool would answer"));
    else exact.append(made("span", { class: "chip warn" }, "not exact"), " " + sentence(found.doubts.join("; ")) + ". The exact answer:");
    if (changed) exact.append(made("pre", { id: "live-command" }, command()));
    if (found.used === 1 && data.kind === "open" && data.utilisation < 1 && found.rows.length) {
      exact.append(made("p", { class: "lead" }, "Nothing keeps to the usual share of its capacity; replicas are used in full."));
    }
    table.replaceChildren(listed());
    root.dataset.live = JSON.stringify({ best: found.rows[0]?.name ?? null, usd: found.rows[0]?.usd_per_hour ?? null,
      chance: found.rows[0]?.slo_chance ?? null,
      doubts: found.doubts.length, count: found.rows.length });
    if (window.Plotly) window.drawLive();
  }

  const sentence = (text) => text[0].toUpperCase() + text.slice(1);

  function frontOf(points) {
    const sorted = [...points].sort((p, q) => p.x - q.x || p.y - q.y), out = [];
    for (const p of sorted) if (!out.length || p.y < out[out.length - 1].y) out.push(p);
    return out;
  }

  window.drawLive = () => {
    const measure = measures[axis.value || 0], [column, unit] = cost(), groups = new Map();
    const points = found.rows.slice(0, DRAWN).map((r) => ({ x: measure.value(r), y: r[column], name: r.label, device: r.device }))
      .filter((p) => isFinite(p.x) && isFinite(p.y));
    for (const p of points) groups.set(p.device, [...(groups.get(p.device) ?? []), p]);
    const hover = `%{text}<br>${measure.label}: %{x:.4g} ms<br>%{y:.4g} ${unit}<extra></extra>`;
    const traces = [...groups].map(([device, all]) => ({ type: "scatter", mode: "markers", name: data.devices[device].name,
      x: all.map((p) => p.x), y: all.map((p) => p.y), text: all.map((p) => p.name.replaceAll("<", "&lt;")), hovertemplate: hover,
      marker: { size: 8, opacity: 0.75, color: COLOURS[device % COLOURS.length], symbol: device % 6 } }));
    const front = frontOf(points), best = points.find((p) => p.name === found.rows[0]?.label);
    traces.push({ type: "scatter", mode: "lines", name: "Pareto front", x: front.map((p) => p.x), y: front.map((p) => p.y),
      line: { width: 1.5, dash: "dot", color: "#8a8d91" }, hoverinfo: "skip" });
    if (best) traces.push({ type: "scatter", mode: "markers", name: "chosen", x: [best.x], y: [best.y], hoverinfo: "skip",
      marker: { symbol: "star", size: 16, color: "#d62f4b", line: { width: 1, color: "#fff" } } });
    drawnAgainst.textContent = measure.label;
    const limit = measure.limit?.(), red = "#d62f4b";
    const spans = (values) => values.length && Math.max(...values) > 10 * Math.min(...values) && Math.min(...values) > 0;
    const scale = (values) => spans(values) ? { type: "log", dtick: "D2" } : { rangemode: "tozero" };
    const layout = { height: 360, margin: { l: 64, r: 18, t: 10, b: 48 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      xaxis: { title: { text: measure.label + ", ms" }, automargin: true, ...scale(points.map((p) => p.x)) },
      yaxis: { title: { text: unit }, automargin: true, ...scale(points.map((p) => p.y)) },
      shapes: limit ? [{ type: "line", x0: limit, x1: limit, yref: "paper", y0: 0, y1: 1, line: { width: 2, dash: "dash", color: red } }] : [] };
    Plotly.react(chart, traces, themed(layout, chart), { displayModeBar: false, responsive: true });
    described.textContent = points.length ? `${found.rows.length} candidates qualify, ${front.length} of them on the front` +
      (limit ? `; the dashed line is the SLO, ${number(limit)} ms.` : ".") : "No candidate to draw.";
    chart.setAttribute("aria-label", `Points: cost against ${measure.label}. ${described.textContent}`);
  };

  const plannedAnswer = solve(data, start).rows[0];
  window.liveSet = (changes) => { Object.assign(state, structuredClone(start), changes); resets.forEach((show) => show()); update(); };
  window.liveCommand = command;
  update();
})();
