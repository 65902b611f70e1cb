// Charts are drawn from the data blocks of this page; nothing is fetched. Colours follow the theme.
const root = document.documentElement;
const charts = JSON.parse(document.getElementById("charts").textContent);

function colour(name) {
  return getComputedStyle(root).getPropertyValue("--" + name).trim();
}

// PAPER, HALF: width of a chart on A4 between the margins of the style sheet, alone and of two side by side, pixels.
// LOWER: height of a chart on paper, as a share of that in a window; LETTER: size of its letters, pixels.
const NARROW = 560, LINE_LETTERS = 24, NAME_LETTERS = 34, PAPER = 676, HALF = 322, LOWER = 0.62, LETTER = 9.5;
let printing = false;

// A title, or the name of a bar, on several lines, where the window is narrow.
function wrapped(text, letters = LINE_LETTERS) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if ((lines[lines.length - 1] + word).length > letters) lines.push("");
    lines[lines.length - 1] += (lines[lines.length - 1] ? " " : "") + word;
  }
  return lines.filter(Boolean).join("<br>");
}

// place: the element that the chart is drawn in. names: of its bars.
function themed(layout, place, names = []) {
  const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line") };
  const out = Object.assign({}, layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("ink"), size: 12.5, family: getComputedStyle(document.body).fontFamily },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
  });
  if (printing) {
    out.width = place.closest(".two") && !place.closest(".whole") ? HALF : PAPER;
    out.height = Math.round(LOWER * layout.height);
    out.font.size = LETTER;
  }
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis/.test(key)) out[key] = Object.assign({}, layout[key], axis);
    if (/^xaxis/.test(key) && innerWidth < NARROW && layout[key].title?.text) {
      out[key].title = { text: wrapped(layout[key].title.text), font: { size: 12 } };
      out[key].nticks = 5;
    }
    if (/^yaxis/.test(key) && innerWidth < NARROW) {
      out[key].tickfont = { size: 10.5 };
      const long = names.some((name) => String(name).length > NAME_LETTERS);
      if (long) Object.assign(out[key], { tickvals: names, ticktext: names.map((name) => wrapped(name, NAME_LETTERS)) });
    }
  }
  return out;
}

function draw() {
  for (const [name, figure] of Object.entries(charts)) {
    const place = document.getElementById("chart-" + name);
    if (place && printing) Plotly.purge(place);  // margins are those of legends at the new width
    const bars = figure.data.find((trace) => trace.orientation === "h");
    const legend = bars && figure.data.length > 1;  // beside long names of bars it leaves no place for them
    place?.closest(".card")?.classList.toggle("whole", Boolean(legend));
    if (place) Plotly.react(place, figure.data, themed(figure.layout, place, bars?.y), { displayModeBar: false, responsive: true });
  }
  if (window.drawLive) window.drawLive();
  root.dataset.drawn = "yes";
}

function setTheme(name) {
  root.dataset.theme = name;
  if (window.Plotly) draw();
}

function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0];
  const column = [...header.parentNode.children].indexOf(header);
  const rising = header.getAttribute("aria-sort") !== "ascending";
  const key = (row) => row.children[column].dataset.sort ?? row.children[column].textContent;
  const compare = (a, b) => {
    const x = key(a), y = key(b), p = parseFloat(x), q = parseFloat(y);
    if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;  // unknown stays last
    return (isNaN(p) || isNaN(q) ? x.localeCompare(y) : p - q) * (rising ? 1 : -1);
  };
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  body.append(...[...body.rows].sort(compare));
}

// The charting library is kept compressed in the page: a third of its size, unpacked by the browser itself.
async function unpack() {
  const packed = atob(document.getElementById("plotly").textContent.trim());
  const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

document.querySelectorAll("th.sortable").forEach((header) => {
  header.tabIndex = 0;
  header.addEventListener("click", () => sortBy(header));
  header.addEventListener("keydown", (event) => { if (event.key === "Enter") sortBy(header); });
});
document.querySelector("button.theme").addEventListener("click", () =>
  setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
let narrow = innerWidth < NARROW;
window.addEventListener("resize", () => {
  if (narrow === innerWidth < NARROW) return;
  narrow = innerWidth < NARROW;
  if (window.Plotly) draw();
});
let seen = "";
window.addEventListener("beforeprint", () => { seen = root.dataset.theme; printing = true; setTheme("light"); });
window.addEventListener("afterprint", () => { printing = false; setTheme(seen); });
setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
unpack().then(draw).catch((problem) => {
  root.dataset.drawn = "no";
  document.querySelectorAll(".chart").forEach((place) => {
    place.textContent = "This browser cannot draw the chart (" + problem.message + "); the tables hold the same figures.";
  });
});
