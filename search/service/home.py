"""The server's start page: a scenario to edit, its plan and its report. It loads nothing from the network."""

from __future__ import annotations

#: A scenario that the page begins with.
EXAMPLE = """\
title = "chat on an 8B model"

[model]
name = "meta-llama/Llama-3.1-8B"

[workload]
input_tokens = 1024
output_tokens = 256
request_rate_rps = 5

[slo]
ttft_ms_p95 = 500
tpot_ms = 50

[hardware]
devices = ["h100-sxm", "l40s"]
"""

HOME = (
    """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>perfmodel</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
:root { color-scheme: light dark; }
textarea { width: 100%; height: 22rem; font: 14px/1.4 ui-monospace, monospace; box-sizing: border-box; }
button { font: inherit; padding: .4rem 1rem; margin: .5rem .5rem .5rem 0; }
pre { white-space: pre-wrap; }
</style></head>
<body>
<h1>perfmodel</h1>
<p>A scenario says what is served, on which hardware, within which SLOs. The answers are also at
<a href="openapi.json">openapi.json</a>, for programs.</p>
<label for="scenario">Scenario (TOML)</label>
<textarea id="scenario" spellcheck="false">"""
    + EXAMPLE
    + """</textarea>
<button id="plan">Plan</button><button id="report">Report</button>
<pre id="answer" aria-live="polite"></pre>
<script>
const answer = document.getElementById("answer");
async function ask(name, body) {
  answer.textContent = "…";
  const headers = {"content-type": "application/json"};
  return fetch("v1/" + name, {method: "POST", headers, body: JSON.stringify(body)});
}
async function told(response) {
  const found = await response.json();
  answer.textContent = found.error ? found.error.message : [found.headline, ...found.notes].join("\\n");
}
const scenario = () => document.getElementById("scenario").value;
document.getElementById("plan").onclick = async () => told(await ask("plan", {scenario: scenario()}));
document.getElementById("report").onclick = async () => {
  const response = await ask("report", {scenario: scenario()});
  if (!response.ok) return told(response);
  const page = URL.createObjectURL(new Blob([await response.text()], {type: "text/html"}));
  answer.textContent = "";
  const link = document.createElement("a");
  link.href = page; link.target = "_blank"; link.rel = "noopener"; link.textContent = "The report";
  answer.append(link);
  window.open(page, "_blank", "noopener");
};
</script>
</body></html>
"""
)
