"use strict";
// Ranks the candidates of the plan again for other SLOs, load, prices, PUE and confidence. Knows nothing of the page.
// Equations are those of search/planning/operating_point/sizing.py, search/planning/evaluation/ (scoring.py,
// columns.py) and search/searchers/front.py.

const LOG10_DIGITS = 6, SURE_ENOUGH = 0.8, DEVIATE_80 = 1.2815515655446004, TOLERANCE = 1 + 1e-9, FARTHEST = 6, LEAST_SLACK = 5e-4;
// Relative error of a latency between two loads of the table where it rises by steps. chosen: above what was seen.
const STEP_DOUBT = 4e-3;
// Error of a chance between two total loads of the tables. chosen: above what was seen.
const BURST_DOUBT = 0.02;
const ALIKE = "the best candidates are so nearly alike that another may come first";
const MONEY_KEYS = ["usd_per_hour", "usd_per_million_tokens", "usd_per_million_total_tokens"];

// Numbers of a column: 4-byte floats, or steps of 2 bytes from `low` on (0: unknown), of logarithms where `log` says so.
function unpacked(column) {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  if (typeof column === "string") return new Float32Array(bytes(column));
  const value = (k) => k ? column.low + column.step * (k - 1) : NaN;
  return Float64Array.from(new Uint16Array(bytes(column.steps)), column.log ? (k) => Math.exp(value(k)) : value);
}

// The normal distribution function, by the continued fraction and the series of its error function.
function normalShare(z) {
  if (!isFinite(z)) return z > 0 ? 1 : 0;
  const x = Math.abs(z);
  let upper;
  if (x < 3) {
    let term = x, sum = x;
    for (let k = 1; k < 80; k++) { term *= (x * x) / (2 * k + 1); sum += term; }
    upper = 0.5 - (sum * Math.exp(-x * x / 2)) / Math.sqrt(2 * Math.PI);
  } else {
    let tail = x;
    for (let k = 60; k > 0; k--) tail = x + k / tail;
    upper = Math.exp(-x * x / 2) / (tail * Math.sqrt(2 * Math.PI));
  }
  return z > 0 ? 1 - upper : upper;
}

function normalDeviate(share) {
  let low = -12, high = 12;
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (normalShare(middle) < share) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

function rounded(value, digits) {
  if (!isFinite(value) || value === 0) return value;
  const scale = 10 ** (digits - Math.ceil(Math.log10(Math.abs(value))));
  return isFinite(scale) && scale > 0 ? Math.round(value * scale) / scale : value;
}

// Everything as planned: the state that the controls begin with.
function plannedState(given) {
  const data = opened(given);
  return {
    load: data.load, limits: data.objectives.map((o) => o.limit), confidence: data.confidence, pue: data.pue,
    usd_per_kwh: data.usd_per_kwh, prices: data.devices.map((d) => d.usd_per_hour), offered: data.devices.map(() => true),
  };
}

function opened(data) {
  if (data.arrays) return data;
  data.arrays = {};
  data.planned_use = data.kind === "open" ? data.utilisation : 1;
  if (data.layouts.length) {
    const load = Float64Array.from(data.table.greatest.flatMap((most) => data.table.shares.map((share) => most * share)));
    data.tables = data.table.columns.map((columns) =>
      ({ load, ...Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, unpacked(column)])) }));
    data.arrays = data.tables[0];
  }
  for (const device of data.devices) if (device.stock === null) device.stock = Infinity;
  for (const record of [...data.devices, ...data.fixed, ...data.layouts.map((layout) => layout.planned), data]) {  // JSON has no NaN: what is not known is null
    for (const [name, value] of Object.entries(record)) if (value === null && name !== "pools") record[name] = NaN;
  }
  data.known = {};
  if (data.pools) {
    openedPools(data.pools);
    for (const pair of data.fixed) data.known[pair.key.join()] = pair;
    data.fixed = [];
  }
  return data;
}

// Takes the figures of replicas that share a total load, between those of the totals beside it: what bursts add rises with
// the part of them that a replica gets (`split_cv` of perfmodel/equations/queues.py).
function shareBursts(data, total) {
  if (!data.tables || data.tables.length < 2 || data.shared === total) return;
  const { totals } = data.table, last = totals.length - 1;
  let at = 0;
  while (at < last - 1 && totals[at + 1] <= total) at++;
  const less = data.tables[at], more = data.tables[at + 1], whole = Math.min(Math.max(total, totals[0]), totals[last]);
  const part = (load, among) => Math.min(load / among, 1);
  const weight = less.load.map((load) => {
    const high = part(load, totals[at]), low = part(load, totals[at + 1]);
    return high > low ? (part(load, whole) - low) / (high - low) : 0;
  });
  const mean = (w, a, b) => w === 0 ? b : w === 1 ? a : w * a + (1 - w) * b;
  const mixed = (name) => {
    const other = more[name], logs = name.startsWith("bound_");
    return less[name].map((value, k) => logs ? Math.log(mean(weight[k], Math.exp(value), Math.exp(other[k]))) : mean(weight[k], value, other[k]));
  };
  data.arrays = Object.fromEntries(Object.keys(less).map((name) => [name, name === "load" ? less.load : mixed(name)]));
  data.shared = total;
}

// Value of a column of layout `i` at a load of one replica: on a straight line between the loads of the table beside it,
// or, unless `straight`, on the cubic through the two on either side.
function interpolated(data, name, i, load, straight) {
  const n = data.table.points, from = i * n, x = data.arrays.load, y = data.arrays[name];
  if (load <= x[from]) return y[from];
  let low = 0, high = n - 1;
  if (load >= x[from + high]) return load > x[from + high] * 1.002 ? NaN : y[from + high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[from + middle] <= load) low = middle; else high = middle;
  }
  const part = (load - x[from + low]) / (x[from + high] - x[from + low]);
  const line = y[from + low] + part * (y[from + high] - y[from + low]);
  if (straight || low === 0 || high === n - 1) return line;
  let cubic = 0;
  for (let j = low - 1; j <= high + 1; j++) {
    let weight = 1;
    for (let k = low - 1; k <= high + 1; k++) if (k !== j) weight *= (load - x[from + k]) / (x[from + j] - x[from + k]);
    cubic += weight * y[from + j];
  }
  return isFinite(cubic) ? cubic : line;
}

// Greatest load of one replica of layout `i` that keeps every bound, and by how much, relative, it may be wrong.
function greatestLoad(data, i, bounds, deviate) {
  const n = data.table.points, from = i * n, a = data.arrays;
  const excess = (k, o) => a["bound_" + o][from + k] - Math.log(bounds[o]) + deviate * a["spread_" + o][from + k] / DEVIATE_80;
  const kept = (k) => !a.over?.[from + k] && bounds.every((_, o) => excess(k, o) <= 0);
  let at = n - 1;
  while (at >= 0 && !kept(at)) at--;
  if (at < 0) return { load: 0, slack: 0 };
  const here = a.load[from + at];
  if (at === n - 1) return { load: here, slack: 0.002 };
  const next = a.load[from + at + 1], step = (next - here) / here;
  const known = bounds.every((_, o) => isFinite(a["bound_" + o][from + at + 1]));
  if (!known) return { load: here * (1 + step / 2), slack: step / 2 };
  const line = crossing(data, i, here, next, bounds, deviate, true), curve = crossing(data, i, here, next, bounds, deviate, false);
  const doubt = at > 0 && at < n - 2 ? (2 * Math.abs(curve - line)) / here : 0.15 * step;
  // Where a latency hardly rises with the load, a small error of it moves the load by much.
  const rises = bounds.map((_, o) => (excess(at + 1, o) - excess(at, o)) / step).filter((_, o) => excess(at + 1, o) > 0);
  return { load: curve, slack: Math.max(LEAST_SLACK, doubt, Math.min(STEP_DOUBT / Math.min(...rises), step)) };
}

// Load between two of the table up to which layout `i` keeps every bound, by bisection; straight: as of `interpolated`.
function crossing(data, i, low, high, bounds, deviate, straight) {
  const at = (name, load) => interpolated(data, name, i, load, straight);
  const keeps = (load) => bounds.every((bound, o) =>
    at("bound_" + o, load) + deviate * at("spread_" + o, load) / DEVIATE_80 <= Math.log(bound));
  for (let k = 0; k < 25; k++) {
    const middle = (low + high) / 2;
    if (keeps(middle)) low = middle; else high = middle;
  }
  return low;
}

function placed(device, size, replicas) {
  const onOne = Math.max(Math.floor(device.per_node / size), 1);
  const nodes = size <= device.per_node ? Math.ceil(replicas / onOne) : replicas * Math.ceil(size / device.per_node);
  return { nodes, billed: device.whole ? nodes * device.per_node : size * replicas, failing: device.whole ? onOne : 1 };
}

function atTheWall(device, nodes, watts) {
  const hosted = isFinite(device.host_power) ? nodes : 0;
  const limit = device.device_limit * device.per_node * hosted;
  const share = limit > 0 ? Math.min(Math.max(watts / limit, 0), 1) : 1;
  const idle = (device.host_idle || 0) * hosted, loaded = (device.host_loaded || 0) * hosted;
  return watts + idle + (loaded - idle) * share;
}

function asPlanned(data, state, ...names) {
  const was = plannedState(data);
  return names.every((name) => String(state[name]) === String(was[name]));
}

// One layout at its operating point; null where it needs nothing to be said of it.
function sized(data, state, i, greatest, used) {
  const layout = data.layouts[i], device = data.devices[layout.device], size = layout.size, known = layout.planned;
  if (!state.offered[layout.device]) return null;
  const bounded = asPlanned(data, state, "limits", "confidence"), filled = data.kind === "fill";
  // What the plan has counted is not counted again from the table, where a nearly flat latency would move it by much.
  const counted = !filled && known.qualifies && used === data.planned_use && bounded && asPlanned(data, state, "load");
  if (filled && bounded && known.load > 0) greatest = known.load;
  if (!counted && !(greatest > 0)) return null;
  const spare = data.spare_nodes * placed(device, size, 1).failing;
  let replicas = filled ? mostReplicas(data, state, i, greatest, spare)
    : counted ? known.replicas : Math.max(1, Math.ceil((state.load / used / greatest) * (1 - 1e-9))) + spare;
  if (data.kind === "closed" && replicas - spare > state.load) return null;
  const { nodes, billed } = placed(device, size, replicas);
  const bill = { replicas, nodes, billed, devices: size * replicas };
  const load = filled ? greatest * (replicas - spare) / replicas : state.load / replicas;
  const row = figures(data, state, i, bill, load, false);
  row.exact = known.replicas === replicas && asPlanned(data, state, "load", "limits") && (!filled || bounded);
  row.rough = row.exact ? null : figures(data, state, i, bill, load, true);
  if (row.exact) {
    const { slo_chance, ttft_ms, tpot_ms, e2e_ms, bounds } = known;
    Object.assign(row, { slo_chance, ttft_ms, tpot_ms, e2e_ms, bounds, power_w: known.power_w * state.pue / data.pue });
  }
  return row;
}

// As many replicas of layout `i`, each under `load`, as the limits allow; of what nothing limits, those of one node.
function mostReplicas(data, state, i, load, spare) {
  const l = data.limits, layout = data.layouts[i], device = data.devices[layout.device];
  const allowed = (n) => {
    const { nodes, billed } = placed(device, layout.size, n);
    const bill = { replicas: n, nodes, billed, devices: layout.size * n };
    const row = figures(data, state, i, bill, load * Math.max(n - spare, 0.01) / n, false);
    return within(data, { ...row, layout: i });
  };
  const limited = isFinite(device.stock) || Object.values(l).some((limit) => limit !== null);
  if (!limited) return placed(device, layout.size, 1).failing + spare;
  let low = 0, high = 1;
  while (high < 2 ** 22 && allowed(high)) { low = high; high *= 2; }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (allowed(middle)) low = middle; else high = middle;
  }
  return Math.max(low, 1 + spare);
}

// The figures of layout `i` with so many devices, each replica under `load`; straight: as of `interpolated`.
function figures(data, state, i, { replicas, nodes, billed, devices }, load, straight) {
  const layout = data.layouts[i], device = data.devices[layout.device];
  const at = (name) => interpolated(data, name, i, load, straight);
  const idle = billed > devices ? (billed - devices) * device.device_idle : 0;
  const power = atTheWall(device, nodes, at("power") * devices + idle) * state.pue;
  const ready = atTheWall(device, nodes, devices * device.device_ready + idle) * state.pue;
  const mean = data.used === 1 ? power : data.used * power + (1 - data.used) * ready;
  let usd = billed * state.prices[layout.device];
  if (device.owned && state.prices[layout.device] === device.usd_per_hour) usd += (mean / 1e3) * state.usd_per_kwh + data.staff_usd_per_hour;
  const rate = data.kind === "open" ? state.load : data.kind === "fill" ? load * replicas : at("rate") * replicas;
  const limit = !Number.isFinite(layout.cap) ? device.device_limit : Math.min(layout.cap, device.device_limit);
  const host = (device.host_power || 0) * (isFinite(device.host_power) ? nodes : 0);
  const row = { name: `${shown(replicas)} x ${layout.name}`, label: `${shown(replicas)} x ${layout.label}`, layout: i, device: layout.device, replicas, devices, nodes, billed,
    usd_per_hour: usd, power_w: power, rated_w: (limit * billed + host) * state.pue,
    ttft_ms: at("ttft_ms"), tpot_ms: at("tpot_ms"), e2e_ms: at("e2e_ms"), ...served(data, rate, usd, power, mean, devices),
    request_rate_rps_per_replica: rate / replicas };
  row.bounds = data.objectives.map((_, o) => Math.exp(at("bound_" + o)));
  const each = data.objectives.map((_, o) => o);
  const related = each.map((i) => each.map((j) => i === j ? 1 : at(`related_${Math.min(i, j)}_${Math.max(i, j)}`)));
  row.slo_chance = jointChance(state.limits, row.bounds, each.map((o) => at("spread_" + o)), related);
  return row;
}

function served(data, rate, usd, power, mean, devices) {
  const output = rate * data.output_tokens, paid = 3600 * data.used * 1e-6;
  return { request_rate_rps: rate, output_tok_s: output, output_tok_s_per_device: output / devices,
    usd_per_million_tokens: usd / (paid * output), usd_per_million_total_tokens: usd / (paid * rate * data.total_tokens),
    site_energy_j_per_output_token: power / output,
    gco2_per_million_tokens: (mean / (output * data.used)) / 3.6 * data.gco2_per_kwh };
}

// Chance that all objectives hold together, as `joint_chance` of perfmodel/estimates/slo_chances/joint.py computes it.
// limits, values: in ms. spreads: log half-widths of the 80 % intervals. related: correlations of the errors.
function jointChance(limits, values, spreads, related) {
  const clipped = (z) => Math.min(Math.max(z, -FARTHEST), FARTHEST);
  const deviates = values.map((v, o) => (Math.log(limits[o] / v) / Math.max(spreads[o], 1e-12)) * DEVIATE_80);
  const alone = deviates.map(normalShare), count = alone.length;
  if (count < 2) return count ? alone[0] : 1;
  let at = deviates.map(clipped), by = related, chance = 1;
  for (let first = 0; first < count; first++) {
    const z = at[first], share = normalShare(z), later = by[first];
    chance *= share;
    const tail = Math.exp(-0.5 * z * z) / Math.sqrt(2 * Math.PI) / Math.max(share, 1e-12);
    const shrinks = Math.min(Math.max(tail * (tail + z), 0), 1);
    const left = later.map((r) => Math.sqrt(Math.max(1 - r * r * shrinks, 1e-9)));
    at = at.map((other, o) => clipped((other + later[o] * tail) / left[o]));
    by = by.map((row, i) => row.map((r, j) => (r - later[i] * later[j] * shrinks) / (left[i] * left[j])));
  }
  const least = Math.max(alone.reduce((sum, p) => sum + p, 0) - count + 1, 0);
  return Math.min(Math.max(chance, least), Math.min(...alone));
}

// A candidate that keeps its replicas: pairs of pools, and plans whose replicas the page does not count.
function kept(data, state, c, deviate) {
  if (c.billed.some(([d]) => !state.offered[d]) || !Object.is(state.load, data.load)) return null;
  const rented = c.billed.every(([d]) => !data.devices[d].owned);
  const sum = (prices) => c.billed.reduce((s, [d, n]) => s + n * prices[d], 0);
  const usd = rented ? sum(state.prices) : c.usd_per_hour + sum(state.prices) - sum(data.devices.map((d) => d.usd_per_hour));
  const { usd_per_million_tokens, usd_per_million_total_tokens } = served(data, c.request_rate_rps, usd, NaN, NaN, c.devices);
  const pue = state.pue / data.pue;
  const ok = c.bounds.every((v, o) => v * Math.exp((deviate * c.spreads[o]) / DEVIATE_80) <= state.limits[o]);
  if (!ok || (c.verdict !== 0 && c.verdict !== 2)) return null;
  return { ...c, usd_per_hour: usd, power_w: c.power_w * pue, rated_w: c.rated_power_kw * 1e3 * pue,
    usd_per_million_tokens, usd_per_million_total_tokens,
    site_energy_j_per_output_token: c.site_energy_j_per_output_token * pue,
    gco2_per_million_tokens: c.gco2_per_million_tokens * pue, device: c.billed[0][0],
    exact: true,
    slo_chance: jointChance(state.limits, c.bounds, c.spreads, c.related) };
}

function within(data, row) {
  const l = data.limits, over = (value, limit) => limit !== null && value > limit * TOLERANCE;
  if (row.layout !== undefined && row.devices > data.devices[row.device].stock) return false;
  if (over(row.devices, l.devices) || over(row.nodes, l.nodes)) return false;
  const power = data.mean_power ? row.power_w : row.rated_w;
  if (l.power !== null && !(power <= l.power * TOLERANCE)) return false;
  return l.usd_per_hour === null || row.usd_per_hour <= l.usd_per_hour * TOLERANCE;
}

function ranked(data, rows) {
  const sign = data.lower_is_better ? 1 : -1;
  const keys = rows.map((r) => {
    const main = rounded(sign * r[data.rank_by], LOG10_DIGITS), usd = rounded(r.usd_per_hour, LOG10_DIGITS);
    return [isNaN(main) ? Infinity : main, isNaN(r.usd_per_hour) ? r.devices : 0, isNaN(usd) ? Infinity : usd,
      -rounded(Math.min(r.slo_chance, SURE_ENOUGH), 2), r.devices, rounded(r.power_w, 2), -rounded(r.slo_chance, LOG10_DIGITS)];
  });
  const order = rows.map((_, i) => i).sort((i, j) => {
    for (let k = 0; k < keys[i].length; k++) if (keys[i][k] !== keys[j][k]) return keys[i][k] < keys[j][k] ? -1 : 1;
    return i - j;
  });
  return order.map((i) => rows[i]);
}

function rankedAt(data, state, found, share, used) {
  const rows = [];
  for (let i = 0; i < data.layouts.length; i++) {
    const row = sized(data, state, i, found[i].load * (1 + share * found[i].slack), used);
    if (row && within(data, row)) rows.push(row);
  }
  const deviate = normalDeviate(state.confidence);
  for (const c of data.fixed) {
    const row = kept(data, state, c, deviate);
    if (row && within(data, row)) rows.push(row);
  }
  if (data.pools) rows.push(...sizedPairs(data, state, share, used));
  return ranked(data, rows);
}

// The candidates that qualify, best first, and why the answer may not be exact ([] where it is).
function solve(given, state) {
  const data = opened(given), deviate = normalDeviate(state.confidence);
  const greatest = (share) => {
    shareBursts(data, state.load / share);
    const most = data.layouts.map((_, i) => greatestLoad(data, i, state.limits, deviate));
    shareBursts(data, state.load);
    return most;
  };
  let used = data.planned_use, found = greatest(used);
  let rows = rankedAt(data, state, found, 0, used);
  if (!rows.length && data.kind === "open" && !data.utilisation_stated) {
    used = 1;
    found = greatest(used);
    rows = rankedAt(data, state, found, 0, used);
  }
  const told = doubts(data, state, found, rows, used);
  if (closelyFollowed(data, rows) && !told.includes(ALIKE)) told.push(ALIKE);
  return { rows, used, doubts: told };
}

// Whether another candidate would be first if the numbers of the page were off by as much as a straight line differs
// from a cubic between two loads of the table. Candidates with the same figures are off alike.
function closelyFollowed(data, rows) {
  const doubtful = ["usd_per_hour", "power_w", "slo_chance", data.rank_by];
  const alike = (row) => doubtful.every((name) => Object.is(row[name], rows[0][name]));
  const moved = (row) => {
    if (!row.rough) return row;
    const sign = alike(row) ? 1 : -1;
    const to = (name, way) => row[name] + sign * way * Math.abs(row[name] - row.rough[name]);
    return { ...row, usd_per_hour: to("usd_per_hour", 1), power_w: to("power_w", 1), slo_chance: to("slo_chance", -1),
      [data.rank_by]: to(data.rank_by, data.lower_is_better ? 1 : -1) };
  };
  return rows.length > 1 && ranked(data, rows.map(moved))[0].name !== rows[0].name;
}

// Whether a layout that is not in the page might be better than `best` at other prices, with the replicas of the plan.
function overtaken(data, state, best) {
  const others = data.left_out.filter(([device, , , , chance]) => state.offered[device] && chance >= 0);
  if (!others.length) return false;
  const counted = data.kind === "open" && MONEY_KEYS.includes(data.rank_by);
  const limited = data.limits.usd_per_hour !== null || data.limits.power !== null;
  if (!best || !counted || limited || others.some(([device]) => data.devices[device].owned)) return true;
  const rows = others.map(([device, billed, devices, power, chance]) => ({ devices, slo_chance: chance,
    power_w: power * state.pue / data.pue, usd_per_hour: billed * state.prices[device] }));
  return ranked({ ...data, rank_by: "usd_per_hour" }, [best, ...rows])[0] !== best;
}

// Whether another candidate would be first if the loads of the replicas were off by what a crossing may be wrong by.
function nearlyFilled(data, found, rows) {
  const value = (row, way) => row[data.rank_by] * (1 + way * found[row.layout].slack);
  const way = data.lower_is_better ? 1 : -1, [best] = rows;
  return rows.slice(1).some((row) => row.layout !== undefined && (value(row, -way) - value(best, way)) * way < 0
    && row.name !== best.name);
}

function doubts(data, state, found, rows, used) {
  const told = [], moved = (...names) => !asPlanned(data, state, ...names);
  const resized = moved("load", "limits", "confidence"), priced = moved("prices", "offered", "pue", "usd_per_kwh");
  if (data.tables?.length > 1) {
    const { totals } = data.table, same = (row, name) => rounded(row[name], LOG10_DIGITS) === rounded(rows[0][name], LOG10_DIGITS);
    const close = (row) => same(row, data.rank_by) && same(row, "usd_per_hour") && Math.abs(row.slo_chance - rows[0].slo_chance) < BURST_DOUBT;
    if (state.load / used > totals[totals.length - 1] * TOLERANCE) told.push("bursts at so high a load are those of a lower one");
    if (state.load < totals[0] / TOLERANCE) told.push("bursts at so low a load are those of a higher one");
    if (moved("load") && rows.slice(1).some(close)) told.push(ALIKE);
  }
  if (resized && data.kind === "fixed") told.push("the replicas of each candidate are those of the plan");
  else if (resized && data.paired && !data.pools) told.push(moved("load") ? "pairs of pools are not sized by the page" : "pools keep their workers");
  if (data.kind === "fixed" && priced && (data.limits.usd_per_hour !== null || data.limits.power !== null)) {
    told.push("a limit on cost or power decides how many replicas there are");
  } else if (data.paired && !data.pools && priced) told.push("other pairs of pools may pay at other prices");
  if (data.pools?.left_out && (resized || priced)) told.push(`${data.pools.left_out} further workers of pools are not in this page`);
  if (data.fixed.some((c) => c.billed.some(([d]) => data.devices[d].owned)) && moved("pue", "usd_per_kwh")) {
    told.push("owned devices pay for their electricity");
  }
  if (data.left_out.length && (resized || (priced && overtaken(data, state, rows[0])))) {
    told.push(`${data.left_out.length} further layouts are not in this page`);
  }
  if (resized && data.kind === "fill" && rows.length && rows[0].layout !== undefined && nearlyFilled(data, found, rows)) {
    told.push(ALIKE);
  }
  if (resized && data.kind !== "fixed") {
    const best = (list) => (list.length ? list[0].name : "");
    const ends = [-1, 1].map((share) => best(rankedAt(data, state, found, share, used)));
    if (ends.some((name) => name !== best(rows))) told.push("a bound is met so closely that the replicas may be one more or less");
  }
  return told;
}

// What the tool would be asked for the same: the changes of `perfmodel whatif`.
function changesOf(data, state) {
  const was = plannedState(data), out = [], number = (v) => String(+v.toPrecision(8));
  if (!Object.is(state.load, was.load)) {
    out.push(`workload.${data.kind === "closed" ? "concurrency" : "request_rate_rps"}=${number(state.load)}`);
  }
  data.objectives.forEach((o, i) => { if (state.limits[i] !== was.limits[i]) out.push(`slo.${o.key}=${number(state.limits[i])}`); });
  if (state.confidence !== was.confidence) out.push(`limits.confidence=${number(state.confidence)}`);
  data.devices.forEach((d, i) => {
    if (state.prices[i] !== was.prices[i] && !(isNaN(state.prices[i]) && isNaN(was.prices[i]))) {
      out.push(`hardware.usd_per_hour.${d.name}=${number(state.prices[i])}`);
    }
  });
  if (state.pue !== was.pue) out.push(`site.pue=${number(state.pue)}`);
  if (state.usd_per_kwh !== was.usd_per_kwh && !isNaN(state.usd_per_kwh)) out.push(`site.usd_per_kwh=${number(state.usd_per_kwh)}`);
  if (state.offered.some((on) => !on)) {
    const left = data.devices.filter((_, i) => state.offered[i]), nodes = left.flatMap((d) => d.nodes);
    out.push(`hardware.devices=${left.filter((d) => !d.nodes.length).map((d) => d.name).join(",")}`);
    if (data.devices.some((d) => d.nodes.length)) out.push(`hardware.nodes=${nodes.join(",")}`);
  }
  return out;
}

function shown(value) {
  return Number.isInteger(value) ? String(value) : String(+value.toPrecision(6));
}

if (typeof module !== "undefined") module.exports = { solve, jointChance, plannedState, changesOf, normalShare, normalDeviate };
