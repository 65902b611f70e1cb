"use strict";
// Sizes pairs of prefill and decode pools as the plan does, one pair at a time, in seconds and requests per second.
// Equations: perfmodel/serving/prefill_pool.py (`promptPool`), perfmodel/estimates/disaggregation/kv_transfer.py (`handOver`), tandem.py
// (`paired`), percentiles.py (`overall`), causes.py and intervals.py (`errorsOf`);
// search/planning/disaggregation/pool_roles.py (`roles`), pool_bounds.py (`offers`), disaggregated.py (`sizedPairs`).
// Figures of decode workers are read between the loads of a table, which moves latencies, power and chances
// by up to `PAIR_SLACK`; all else is computed as the plan computes it.

const LEAST_WIDTH = 1e-12, BISECTIONS = 26, PAIR_SLACK = 5e-4, VALUES_PER_ROUND = 8;

function openedPools(pools) {
  const table = (given) => {
    const arrays = Object.fromEntries(Object.entries(given.columns).map(([name, column]) => [name, unpacked(column)]));
    arrays.load = Float64Array.from(given.greatest.flatMap((most) => given.shares.map((share) => most * share)));
    return { table: { points: given.points }, arrays };
  };
  pools.watts = table(pools.prefill_table);
  pools.steps = table(pools.decode_table);
  const infinite = (record) => { for (const [name, value] of Object.entries(record)) if (value === null) record[name] = Infinity; };
  for (const worker of pools.decode) { infinite(worker); infinite(worker.narrowed); }
  for (const worker of [...pools.prefill, ...pools.decode]) if (worker.cap === null) worker.cap = NaN;
  for (const link of pools.links) for (const [name, value] of Object.entries(link)) if (value === null) link[name] = name === "peers" ? Infinity : NaN;
  for (const name of ["bandwidth", "delay"]) if (pools[name] === null) pools[name] = NaN;
  const survival = Object.values(pools.constants.ranks).map((rank) => -Math.log1p(-rank));
  pools.knots = [0, ...survival];
  pools.below = survival[0] / (survival[1] - survival[0]);
  return pools;
}

const meanOf = (share, values) => share.reduce((sum, s, c) => sum + s * values[c], 0);

// As `perfmodel.arrays.interpolate`, for one column.
function between(knots, values, at) {
  let out = values[0];
  for (let k = 1; k < knots.length; k++) {
    out += Math.min(Math.max((at - knots[k - 1]) / Math.max(knots[k] - knots[k - 1], LEAST_WIDTH), 0), 1) * (values[k] - values[k - 1]);
  }
  return out;
}

const allBusy = (rho, servers) => rho ** (Math.sqrt(2 * (servers + 1)) - 1);

function queueWait(rho, service, arrivalCv = 1, serviceCv = 0, servers = 1) {
  return rho < 1 ? allBusy(rho, servers) / (servers * (1 - rho)) * service * (arrivalCv ** 2 + serviceCv ** 2) / 2 : Infinity;
}

// As `burst_wait` of perfmodel/equations/queues.py, for a load below 1.
function burstWait(rho, service, arrivalCv) {
  const bursts = Math.max(arrivalCv ** 2 - 1, 0), load = Math.max(rho, LEAST_WIDTH);
  if (!bursts) return 0;
  let fall = Math.sqrt(2 * (load - Math.log(load) - 1)) - Math.log(load);
  for (let k = 0; k < 5; k++) fall -= (fall - Math.log1p(fall / load)) / (1 - 1 / (load + fall));
  return service * bursts / fall;
}

function promptPool(p, workers, constants) {
  const last = p.groups.length - 1, paces = p.groups.map((g, k) => g / p.times[k]), most = workers * Math.max(...paces);
  let top = 0;
  const rates = paces.map((pace) => (top = Math.max(top, workers * pace)));
  const groupAt = (rate) => Math.min(Math.max(between(rates, p.groups, rate), p.groups[0]), p.groups[last]);
  return {
    most,
    wait(rate, cv) {
      const group = groupAt(rate), time = between(p.groups, p.times, group);
      const busy = Math.min(rate * p.times[0] / workers, 1), used = Math.min(rate / most, constants.max_utilisation);
      const even = Math.min(cv, 1), pace = p.times[last] / p.groups[last];
      const residual = allBusy(busy, workers) * time * (even ** 2 + p.time_cv ** 2) / 2 / workers;
      return residual + used * queueWait(used, pace, even, p.time_cv, workers) + burstWait(used, pace / workers, cv);
    },
    prefill: (rate, wait) => between(p.groups, p.times, Math.min(Math.max(1 + rate * wait, groupAt(rate)), p.groups[last])),
  };
}

function commonDivisor(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}

// The hand-over of one pair over the link at `place`, as `transfer` and `link_between` compute it.
function handOver(pools, p, d, workers, place) {
  const ends = [pools.links[p.device], pools.links[d.device]], constants = pools.constants, auto = place === "auto";
  const group = (p.size * workers[0] + d.size * workers[1]) / commonDivisor(...workers);
  const local = auto ? p.device === d.device && group <= ends[0].peers && isFinite(ends[0].fabric_bps) : place !== "network";
  const machine = local && (auto ? Math.min(ends[0].peers, ends[1].peers) <= constants.node_devices : place === "node");
  const name = local ? "fabric" : "network";
  const bandwidth = isNaN(pools.bandwidth) ? Math.min(ends[0][name + "_bps"], ends[1][name + "_bps"]) : pools.bandwidth;
  const delay = isNaN(pools.delay) ? (machine ? constants.hand_over_in_node : constants.hand_over) : pools.delay;
  const seconds = p.kv_bytes.map((bytes, c) => Math.max(bytes, d.kv_bytes[c]) / bandwidth);
  const busy = [p, d].map((end) => meanOf(pools.share, end.kv_bytes) / bandwidth), latency = Math.max(ends[0][name + "_s"], ends[1][name + "_s"]);
  const after = (own, c) => pools.layerwise
    ? Math.max(seconds[c] / pools.layers, seconds[c] - own * (pools.layers - 1) / pools.layers) : seconds[c];
  return {
    seconds: p.alone.map((own, c) => after(own, c) + latency + delay), arriving: meanOf(pools.share, seconds) || 0,
    most: constants.max_utilisation * Math.min(workers[0] / busy[0], workers[1] / busy[1]),
    wait: (rate) => Math.max(...busy.map((b, i) => queueWait(Math.min(rate * b / workers[i], constants.max_utilisation), b))),
  };
}

// Both pools with `workers` in each under `rate`, as `serve_tandem` has them. i, j: of the prefill and decode workers.
function paired(pools, i, j, workers, rate, place) {
  const p = pools.prefill[i], d = pools.decode[j], constants = pools.constants;
  const prompts = promptPool(p, workers[0], constants), link = handOver(pools, p, d, workers, place);
  const later = Math.max(meanOf(pools.share, pools.output) - 1, 0);
  const room = workers[1] * d.max_running / Math.max(later * d.full + link.arriving, LEAST_WIDTH);
  const most = Math.min(constants.max_utilisation * prompts.most, room, link.most), passed = Math.min(rate, most);
  const saturated = passed < rate * constants.saturated_share, wait = saturated ? Infinity : prompts.wait(passed, pools.cv);
  const at = (name) => interpolated(pools.steps, name, j, passed / workers[1], false);
  const grouped = prompts.prefill(passed, prompts.wait(passed, pools.cv)) - p.times[0], queued = link.wait(passed);
  const prefill = p.alone.map((own, c) => own + grouped + link.seconds[c] + queued);
  return { i, j, workers, rate: passed, saturated, wait, prefill, tpot: at("tpot"), at, load: rate / most,
    gain: Math.min(1 + 1 / Math.max(1 - passed / most, 1 / constants.most_gain), constants.most_gain),
    fits: p.fits && d.fits };
}

const isRank = (pools, statistic) => statistic in pools.constants.ranks;

// A latency within each request class, as `Estimates.quantile`.
function byClass(pools, s, metric, statistic) {
  const p = pools.prefill[s.i], d = pools.decode[s.j];
  if (metric === "tpot") return s.prefill.map(() => s.tpot);
  if (metric === "itl") return s.prefill.map(() => s.tpot * d.accepted);
  const first = isRank(pools, statistic)
    ? s.prefill.map((own, c) => own + p.request_time[c] - s.wait * Math.log1p(-pools.constants.ranks[statistic]))
    : s.prefill.map((own, c) => own + s.wait + p.request_time[c]);
  return metric === "ttft" ? first : first.map((own, c) => own + Math.max(pools.output[c] - 1, 0) * s.tpot);
}

// The latency of each class at each knot of the distribution, and the share of requests within a limit.
function valuesAtKnots(pools, s, metric) {
  const known = Object.keys(pools.constants.ranks).map((rank) => byClass(pools, s, metric, rank));
  const lowest = known[0].map((v, c) => Math.min(Math.max(v - pools.below * (known[1][c] - v), 0), v));
  return [lowest, ...known];
}

function shareWithin(pools, values, limit) {
  let total = 0;
  for (let c = 0; c < pools.share.length; c++) {
    let depth = 0;
    for (let k = 0; k + 1 < values.length; k++) {
      const low = values[k][c], width = values[k + 1][c] - low, most = k === values.length - 2 ? Infinity : 1;
      const part = width > 0 ? Math.min(Math.max((limit - low) / width, 0), most) : limit >= values[k + 1][c] ? most : 0;
      depth += (pools.knots[k + 1] - pools.knots[k]) * part;
    }
    total += pools.share[c] * -Math.expm1(-depth);
  }
  return total;
}

// A latency over all requests, as `percentiles.overall`.
function overall(pools, s, metric, statistic) {
  const own = byClass(pools, s, metric, statistic);
  if (!isRank(pools, statistic)) return meanOf(pools.share, own);
  if (own.length === 1 || !isFinite(own[0])) return own[0];
  const asked = own.filter((_, c) => pools.share[c] > 0), values = valuesAtKnots(pools, s, metric);
  let low = Math.min(...asked), high = Math.max(...asked);
  for (let k = 0; k < BISECTIONS; k++) {
    const middle = (low + high) / 2;
    if (shareWithin(pools, values, middle) >= pools.constants.ranks[statistic]) high = middle; else low = middle;
  }
  return high;
}

function asShares(values) {
  const total = values.reduce((sum, v) => sum + v, 0);
  return values.map((v) => (total > 0 && isFinite(total) ? v / total : 1 / values.length));
}

// What an objective's error is made of: by cause, the rest, and the log half-width of its 80 % interval.
function errorsOf(pools, s) {
  const p = pools.prefill[s.i], d = pools.decode[s.j], doubts = pools.doubts, later = pools.output.map((o) => Math.max(o - 1, 0));
  const host = s.at("host"), decode = asShares([0, 1, 2, 3].map((k) => s.at("bound_" + k)).concat(host));
  const prompts = asShares(p.bound.concat(host * p.n_steps)), basis = Math.max(p.basis, Math.round(s.at("basis")));
  const answer = meanOf(pools.share, later) * s.tpot, prompt = meanOf(pools.share, s.prefill);
  const front = meanOf(pools.share, p.request_time);
  const early = prompt / (prompt + answer), residence = prompts.map((share, k) => early * share + (1 - early) * decode[k]);
  const all = (steps) => doubts.causes.map((_, k) => steps[k] ?? 0);
  const first = (statistic) => {
    const wait = isRank(pools, statistic) ? -s.wait * Math.log1p(-pools.constants.ranks[statistic]) : s.wait;
    const whole = prompt + wait + front, waiting = isFinite(whole) ? wait / whole : 1;
    const out = all(prompts.map((share, k) => (prompt / whole) * share + waiting * s.gain * residence[k]));
    out[doubts.front_end] = front / whole;
    out[doubts.arrivals] = waiting;
    return out;
  };
  return (objective, o) => {
    const { metric, statistic } = objective, kind = doubts.kinds[o], wider = doubts.wider[kind][basis];
    const firstly = meanOf(pools.share, byClass(pools, s, "ttft", statistic));
    const part = metric === "ttft" ? 1 : metric === "e2e" ? firstly / (firstly + answer) : 0;
    const sensitive = part > 0 ? first(statistic) : all([]), tokens = all(decode);
    const spread = (k) => (d.own_spreads !== Infinity && Number.isFinite(d.own_spreads[k]) ? d.own_spreads[k] : doubts.causes[k] * wider);
    const causes = tokens.map((t, k) => (part * sensitive[k] + (1 - part) * t) * spread(k));
    const [idle, busy] = doubts.rest[o], weight = Math.min(Math.max(s.load, 0), 1) ** 2;
    const drafted = metric === "ttft" ? 0 : metric === "e2e" ? d.drafts_doubt * answer / (answer + meanOf(pools.share, byClass(pools, s, "ttft", "mean"))) : d.drafts_doubt;
    const rest = Math.hypot((idle + (busy - idle) * weight) * wider, drafted);
    const width = DEVIATE_80 * Math.sqrt(causes.reduce((sum, v) => sum + v * v, rest * rest));
    return { causes, rest, kind, width: Math.min(width, d.narrowed[metric]) };
  };
}

// Whether a pair fits, carries its load and keeps the objectives that `decides` names, each with the confidence.
function keepsAll(pools, objectives, s, limits, deviate, decides) {
  if (!s.fits || s.saturated) return false;
  const error = deviate === 0 ? null : errorsOf(pools, s);
  return objectives.every((objective, o) => {
    const { metric, statistic } = objective;
    if (!decides(metric)) return true;
    const limit = limits[o] / 1e3 * (error ? Math.exp(-deviate * error(objective, o).width / DEVIATE_80) : 1);
    if (!isRank(pools, statistic)) return overall(pools, s, metric, statistic) <= limit;
    return shareWithin(pools, valuesAtKnots(pools, s, metric), limit) >= pools.constants.ranks[statistic] * (1 - 1e-12);
  });
}

// Least whole number from `start` to `cap` that passes `test`; NaN where none does. The numbers are tried in the order of
// `least_from`: where a link changes with the numbers of workers, several may pass and others between them fail.
function leastFrom(test, start, cap) {
  if (!test(cap)) return NaN;
  let low = Math.max(Math.floor(start), 1) - 1, high = NaN, reach = 1;
  while (!(high - low <= 1)) {
    const from = low, gap = high - low, open = isNaN(high);
    for (let k = 0; k < VALUES_PER_ROUND; k++) {
      const n = open ? Math.min(from + reach * 2 ** k, cap) : Math.min(from + Math.ceil(gap * (k + 1) / (VALUES_PER_ROUND + 1)), high - 1);
      if (n <= low) continue;
      if (test(n)) { high = n; break; }
      low = n;
    }
    reach *= 2 ** VALUES_PER_ROUND;
  }
  return high;
}

// Each layout on offer in one role, with the least workers that keep what the role decides beside partners in excess.
function roles(data, state, asked, role) {
  const { pools } = data, first = role === "prefill", excess = pools.constants.max_workers, near = pools.place === "auto" ? "node" : pools.place;
  const others = pools[first ? "decode" : "prefill"];
  const decides = (metric) => (first ? metric === "ttft" : metric === "tpot" || metric === "itl"), found = [];
  pools[role].forEach((worker, own) => {
    if (!state.offered[worker.device]) return;
    const partner = Math.max(others.findIndex((other) => other.name === worker.name), 0);
    const beside = (n, rate) => first ? paired(pools, own, partner, [n, excess], rate, near) : paired(pools, partner, own, [excess, n], rate, near);
    const test = (n) => keepsAll(pools, data.objectives, beside(n, asked.rate), asked.limits, asked.deviate, decides);
    const alone = beside(1, asked.rate), start = alone.saturated ? Math.ceil(asked.rate / alone.rate) - 1 : 1;
    const workers = leastFrom(test, start, excess);
    if (isNaN(workers)) return;
    const s = beside(workers, state.load), device = data.devices[worker.device];
    const spares = data.spare_nodes * placed(device, worker.size, 1).failing;
    found.push({ own, worker, workers, spares, quick: overall(pools, s, first ? "ttft" : "tpot", "mean") });
  });
  return found;
}

// What a pair of pools takes and costs, without electricity of its own: both workers with their numbers.
function pairBill(data, state, ends) {
  const bills = ends.map(({ worker, total }) => {
    const device = data.devices[worker.device], place = placed(device, worker.size, total), used = worker.size * total;
    const cap = Number.isFinite(worker.cap) ? Math.min(worker.cap, device.device_limit) : device.device_limit;
    const host = isFinite(device.host_power) ? place.nodes : 0;
    return { ...place, used, device, at: worker.device, host: (device.host_power || 0) * host, loaded: (device.host_loaded || 0) * host,
      hostIdle: (device.host_idle || 0) * host, tdp: host * device.device_limit * device.per_node, rated: cap * place.billed,
      idle: place.billed > used ? (place.billed - used) * device.device_idle : 0 };
  });
  const sum = (name) => bills.reduce((total, bill) => total + bill[name], 0), own = bills[0].at === bills[1].at;
  const over = bills.some((bill) => (own ? sum("used") : bill.used) > bill.device.stock);
  const usd = bills.reduce((total, bill) => total + bill.billed * state.prices[bill.at], 0);
  return { bills, sum, over, usd, devices: sum("used"), nodes: sum("nodes"), billed: sum("billed") };
}

// The pairs that can hand a KV cache over, those with the best bounds first.
function offers(data, state, prefill, decode, used) {
  const { pools } = data, found = [], l = data.limits, over = (value, limit) => limit !== null && value > limit;
  const sign = data.lower_is_better ? 1 : -1;
  for (const p of prefill) for (const d of decode) {
    if (p.worker.kv !== d.worker.kv || pools.links[p.worker.device].vendor !== pools.links[d.worker.device].vendor) continue;
    const bill = pairBill(data, state, [p, d].map((end) => ({ worker: end.worker, total: end.workers + end.spares })));
    if (bill.over || over(bill.devices, l.devices) || over(bill.nodes, l.nodes) || over(bill.usd, l.usd_per_hour)) continue;
    const money = served(data, state.load, bill.usd, NaN, NaN, bill.devices), later = Math.max(data.output_tokens - 1, 0);
    const columns = { ...money, usd_per_hour: bill.usd, devices: bill.devices, nodes: bill.nodes, ttft_ms: p.quick * 1e3, tpot_ms: d.quick * 1e3,
      e2e_ms: (p.quick + later * d.quick) * 1e3, request_rate_rps_per_replica: state.load / (d.workers + d.spares) };
    const value = columns[data.rank_by] ?? bill.usd;
    found.push({ p, d, score: isNaN(value) ? 1e250 : sign * value, devices: bill.devices, quick: p.quick + d.quick });
  }
  return found.sort((a, b) => a.score - b.score || a.devices - b.devices || a.quick - b.quick);
}

// The least workers of both pools of a pair, as `_sized` of the plan finds them; null where none suffice.
function leastWorkers(data, asked, { p, d }) {
  const { pools } = data, excess = pools.constants.max_workers;
  const keeps = (workers, place) => keepsAll(pools, data.objectives, paired(pools, p.own, d.own, workers, asked.rate, place),
    asked.limits, asked.deviate, () => true);
  const sizedOver = (place) => {
    const decode = leastFrom((n) => keeps([excess, n], place), Math.max(d.workers - 1, 1), excess);
    const prefill = isNaN(decode) ? NaN : leastFrom((n) => keeps([n, decode], place), Math.max(p.workers - 1, 1), excess);
    return isNaN(prefill) ? null : [prefill, decode];
  };
  const near = sizedOver(pools.place === "auto" ? "node" : pools.place);
  return !near || pools.place !== "auto" || keeps(near, "auto") ? near : sizedOver("auto");
}

// The figures of a pair with so many workers and its spare ones under the load, as a row like those of `figures`.
function pairRow(data, state, { p, d }, workers) {
  const { pools } = data, total = [workers[0] + p.spares, workers[1] + d.spares];
  const ends = [p, d].map((end, k) => ({ worker: end.worker, total: total[k] })), bill = pairBill(data, state, ends), { sum } = bill;
  const s = paired(pools, p.own, d.own, total, state.load, pools.place), errors = errorsOf(pools, s);
  const front = interpolated(pools.watts, "watts", p.own, s.rate / total[0], false), quick = s.at("watts_0");
  const back = quick + (s.at("watts_1") - quick) * meanOf(pools.share, s.prefill) / pools.seconds_of_watts;
  const atMeter = (watts) => {
    const inside = watts + sum("idle"), share = sum("tdp") > 0 ? Math.min(Math.max(inside / sum("tdp"), 0), 1) : 1;
    return (inside + sum("hostIdle") + (sum("loaded") - sum("hostIdle")) * share) * state.pue;
  };
  const used = bill.bills.map((b) => b.used), power = atMeter(front * used[0] + back * used[1]);
  const ready = atMeter(bill.bills.reduce((watts, b) => watts + b.used * b.device.device_ready, 0));
  const mean = data.used === 1 ? power : data.used * power + (1 - data.used) * ready;
  const owned = bill.bills.reduce((n, b) => n + (b.device.owned && state.prices[b.at] === b.device.usd_per_hour ? b.billed : 0), 0);
  const usd = bill.usd + (owned > 0 ? (mean / 1e3) * state.usd_per_kwh * owned / bill.billed + data.staff_usd_per_hour : 0);
  const each = data.objectives.map((objective, o) => errors(objective, o)), kinds = [...new Set(each.map((e) => e.kind))];
  const vectors = each.map((e) => [...e.causes, ...kinds.map((kind) => (kind === e.kind ? e.rest : 0))]);
  const dot = (a, b) => a.reduce((t, v, k) => t + v * b[k], 0);
  const related = vectors.map((a) => vectors.map((b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))));
  const bounds = data.objectives.map((o) => overall(pools, s, o.metric, o.statistic) * 1e3), spreads = each.map((e) => e.width);
  const latency = (metric) => overall(pools, s, metric, "mean") * 1e3;
  const words = (name) => `prefill ${shown(total[0])} x ${p.worker[name]} + decode ${shown(total[1])} x ${d.worker[name]}`;
  const row = { name: words("name"), label: words("label"), device: p.worker.device, replicas: total[1], devices: bill.devices, nodes: bill.nodes,
    billed: bill.billed, usd_per_hour: usd, power_w: power, rated_w: (sum("rated") + sum("host")) * state.pue, over: bill.over,
    ttft_ms: latency("ttft"), tpot_ms: latency("tpot"), e2e_ms: latency("e2e"), bounds, pools: true,
    ...served(data, state.load, usd, power, mean, bill.devices), request_rate_rps_per_replica: s.rate / total[1],
    slo_chance: jointChance(state.limits, bounds, spreads, related) };
  const off = (name) => row[name] * (1 + PAIR_SLACK), latencies = ["ttft_ms", "tpot_ms", "e2e_ms"].includes(data.rank_by);
  row.rough = { ...row, power_w: off("power_w"), slo_chance: off("slo_chance"), ...(latencies ? { [data.rank_by]: off(data.rank_by) } : {}) };
  return asInThePlan(data, state, row, [p.own, d.own, ...total]);
}

// The row with what the plan knows of the same pair, where nothing but prices and the PUE has moved.
function asInThePlan(data, state, row, key) {
  const known = data.known[key.join()];
  if (!known || !asPlanned(data, state, "load")) return row;
  const { slo_chance, ttft_ms, tpot_ms, e2e_ms, bounds } = known;
  const same = { ...row, ttft_ms, tpot_ms, e2e_ms, bounds, power_w: known.power_w * state.pue / data.pue };
  return asPlanned(data, state, "limits") ? { ...same, slo_chance, exact: true, rough: null } : same;
}

// The pairs that the plan would try, sized and within the limits. share: of `PAIR_SLACK` by which the bounds are looser.
function sizedPairs(data, state, share, used) {
  const { pools } = data, { batch, max_batches: most } = pools.constants, sign = data.lower_is_better ? 1 : -1;
  const limits = state.limits.map((limit) => limit * (1 + share * PAIR_SLACK));
  const asked = { rate: state.load / used, limits, deviate: state.confidence === 0.5 ? 0 : normalDeviate(state.confidence) };
  const found = offers(data, state, roles(data, state, asked, "prefill"), roles(data, state, asked, "decode")), rows = [];
  let best = Infinity;
  for (let start = 0; start < Math.min(found.length, batch * most); start += batch) {
    if (start && !(found[start].score < best - 1e-9 * Math.abs(best))) break;
    for (const offer of found.slice(start, start + batch)) {
      const workers = leastWorkers(data, asked, offer);
      if (!workers) continue;
      const row = pairRow(data, state, offer, workers), score = sign * row[data.rank_by];
      if (row.over || !within(data, row)) continue;
      rows.push(row);
      best = Math.min(best, isNaN(score) ? 1e250 * row.devices : score);
    }
  }
  return rows;
}

if (typeof module !== "undefined") module.exports = { openedPools, paired, overall, errorsOf, sizedPairs, pairRow };
