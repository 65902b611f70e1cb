// Runs inside a report: tries every control, and leaves what it finds wrong in `data-report` of the document.
(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  for (let i = 0; i < 100 && !document.documentElement.dataset.drawn; i++) await wait(100);
  if (document.documentElement.dataset.drawn !== "yes") found.push("charts were not drawn");
  const width = document.documentElement.clientWidth, now = () => document.documentElement.clientWidth, name = (e) => e.id || e.className || e.tagName;
  const wide = () => {
    if (document.documentElement.scrollWidth > now() + 1) found.push("the page is wider than the window: " + document.documentElement.scrollWidth);
    for (const text of document.querySelectorAll(".chart text")) {
      const box = text.getBoundingClientRect(), card = text.closest(".card").getBoundingClientRect();
      const over = Math.max(card.left - box.left, box.right - card.right);
      if (box.width && over > 1) found.push(`cut: ${text.textContent.slice(0, 40)} (${Math.round(over)} px)`);
    }
  };
  wide();
  for (const chart of document.querySelectorAll(".chart")) {
    if (!(chart.getAttribute("aria-label") || "").length) found.push("not described: " + chart.id);
    if (!chart.querySelector(".main-svg")) found.push("not drawn: " + chart.id);
  }
  for (const input of document.querySelectorAll("input, select, button")) {
    const label = input.labels?.[0]?.textContent || input.getAttribute("aria-label") || input.textContent;
    if (!label.trim()) found.push("no name: " + name(input));
    if (input.tabIndex < 0) found.push("not reached by keyboard: " + name(input));
  }
  const text = (node, part) => node.querySelector(part)?.textContent.trim() ?? "";
  const facts = Object.fromEntries([...document.querySelectorAll(".fact")].map((fact) => [text(fact, ".label"), text(fact, ".value")]));
  const tables = Object.fromEntries([...document.querySelectorAll("table[id]")].map((table) => [table.id,
    [...table.tBodies[0].rows].map((row) => Object.fromEntries([...row.cells].map((cell, i) => [table.tHead.rows[0].cells[i].textContent.trim(), cell.textContent.trim()])))]));
  const live = () => document.documentElement.dataset.live, tried = [];
  const start = live();
  for (const input of document.querySelectorAll("#live-controls input")) {
    const box = input.closest(".control");
    const command = window.liveCommand?.();
    if (input.type === "checkbox") input.click();
    else { input.value = input.type === "range" ? +input.max : (+input.value || 1) * 1.5; input.dispatchEvent(new Event(input.type === "range" ? "input" : "change")); }
    await wait(10);
    if (window.liveCommand() === command && !(box && input.type === "number" && +input.value === +input.max)) found.push("a control does nothing: " + name(input));
    tried.push(input.type);
    document.querySelector(".reset").click();
    if (live() !== start) found.push("As planned does not bring the plan back after " + name(input));
  }
  for (const header of document.querySelectorAll("th.sortable")) {
    header.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    if (!header.getAttribute("aria-sort")) found.push("not sorted by keyboard: " + header.textContent);
  }
  const theme = document.querySelector("button.theme"), before = document.documentElement.dataset.theme;
  theme.click();
  await wait(200);
  if (document.documentElement.dataset.theme === before) found.push("the theme does not change");
  wide();
  frameElement.style.width = (width > 900 ? 390 : 1440) + "px";
  await wait(200);
  dispatchEvent(new Event("resize"));  // a browser without a window draws no frame that would send it
  await wait(2500);
  wide();
  document.documentElement.dataset.report = JSON.stringify({ found: [...new Set(found)], tried: tried.length, live: JSON.parse(start || "null"), facts, tables,
    charts: [...document.querySelectorAll(".chart")].filter((c) => c.querySelector(".main-svg")).length });
  if (parent !== window) parent.document.documentElement.dataset.report = document.documentElement.dataset.report;
})();
