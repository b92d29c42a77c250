// The curves of the dashboard: which are drawn, how, beside which other runs, and as a table.

import { Chart } from "./charts.js";
import { byId, call, el, preferences, savePreferences, t } from "./common.js";
import { download } from "./download.js";

const OTHERS = 5; // runs at most that are laid over
const view = { run: null, stage: null, span: null, others: new Set(), fetched: [], charts: new Map(), shown: [] };
const options = { smoothing: 0, log: false, ...preferences.curves };

// What is fetched besides the run itself: the chosen steps in full, and the other runs.
export async function fetchCurves(name, stage) {
  if (name !== view.run || stage !== view.stage) forget(name, stage);
  const [first, last] = view.span ?? [];
  const query = new URLSearchParams({ stage, ...(view.span && { first, last }) });
  const wanted = [...(view.span ? [name] : []), ...view.others];
  view.fetched = await Promise.all(wanted.map(async (run) => {
    const answer = await call(`/api/runs/${encodeURIComponent(run)}/curves?${query}`);
    return { run, stage, curves: (await answer.json()).curves };
  }));
}

function forget(name, stage) {
  if (name !== view.run) view.others.clear();
  view.span = null;
  view.fetched = [];
  view.charts.clear();
  Object.assign(view, { run: name, stage });
}

export function drawCurves(run, stage, runs) {
  const section = byId("curves");
  section.hidden = !stage;
  byId("no-curves").hidden = Boolean(stage);
  if (!stage) return;
  byId("curves-title").textContent = `${t("charts")} · ${stage}`;
  const fetched = view.fetched.filter((each) => each.stage === stage);
  const own = view.span && fetched.find((each) => each.run === run.name);
  const sources = [own ?? { run: run.name, curves: run.curves[stage] }, ...fetched.filter((each) => view.others.has(each.run))];
  view.shown = run.charts[stage].map((chart) => ({ ...chart, curves: curvesOf(chart, sources) })).filter(({ curves }) => curves.length);
  const steps = view.shown.flatMap(({ curves }) => curves.flatMap(({ points }) => [points[0][0], points.at(-1)[0]]));
  const span = view.span ?? [Math.min(...steps), Math.max(...steps)];
  const nodes = view.shown.map((each) => {
    if (!view.charts.has(each.name)) view.charts.set(each.name, new Chart(zoom));
    const chart = view.charts.get(each.name);
    chart.draw({ title: each.title, curves: each.curves, log: options.log, clip: each.clip, span });
    return chart.node;
  });
  const there = byId("charts");
  for (const old of [...there.children]) if (!nodes.includes(old)) old.remove();
  nodes.forEach((node, i) => { if (there.children[i] !== node) there.insertBefore(node, there.children[i] ?? null); }); // what stays keeps the focus
  drawTools(run, stage, runs);
}

// The curves of one chart; several runs are compared by the last of its metrics that one has.
function curvesOf({ metrics }, sources) {
  const has = ({ curves }, metric) => curves[metric]?.length;
  const names = Object.keys(metrics).filter((metric) => sources.some((source) => has(source, metric)));
  const found = sources.length > 1 ? sources.map((source) => [source, names.at(-1), source.run]) : names.map((metric) => [sources[0], metric, metrics[metric]]);
  return found.filter(([source, metric]) => metric && has(source, metric)).map(([source, metric, label]) => {
    const points = source.curves[metric];
    return { run: source.run, label, curve: metrics[metric], points, smooth: options.smoothing && points.length > 2 ? smoothed(points, options.smoothing) : null };
  });
}

// An exponential mean of what came before, without the pull of its start to zero.
function smoothed(points, weight) {
  let sum = 0, share = 0;
  return points.map(([step, value]) => {
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return [step, sum / share];
  });
}

function drawTools(run, stage, runs) {
  byId("smoothing").value = options.smoothing;
  byId("smoothing-value").textContent = options.smoothing ? options.smoothing.toFixed(2) : t("off");
  byId("log-axis").setAttribute("aria-pressed", String(options.log));
  byId("whole").disabled = !view.span;
  const others = runs.filter((each) => each.name !== run.name && each.stages.some(({ name, step }) => name === stage && step !== null));
  for (const name of view.others) if (!others.some((each) => each.name === name)) view.others.delete(name);
  byId("overlay").hidden = !others.length;
  const list = byId("others"), names = others.map(({ name }) => name), full = view.others.size >= OTHERS;
  if (list.dataset.names !== JSON.stringify(names)) {
    list.dataset.names = JSON.stringify(names);
    list.replaceChildren(...names.map((name) => el("label", {}, el("input", { type: "checkbox", value: name, onchange: choose }), el("span", { text: name }))));
  }
  for (const box of list.querySelectorAll("input")) {
    box.checked = view.others.has(box.value);
    box.disabled = full && !box.checked;
  }
}

function choose({ target }) {
  view.others[target.checked ? "add" : "delete"](target.value);
  view.changed();
}

function zoom(span) {
  if (!span && !view.span) return;
  view.span = span;
  view.redraw();
  view.changed();
}

const cell = (value) => (typeof value === "number" ? String(value) : `"${String(value).replace(/^(?=[=+@-])/, "'").replaceAll('"', '""')}"`);

// What is drawn, a point a line; a spreadsheet takes no name of a run for a formula.
export function table() {
  const lines = [["run", "stage", "chart", "curve", "step", "value", ...(options.smoothing ? ["smoothed"] : [])]];
  for (const { title, curves } of view.shown) {
    for (const { run, curve, points, smooth } of curves) {
      points.forEach(([step, value], i) => {
        if (view.span && (step < view.span[0] || step > view.span[1])) return;
        lines.push([run, view.stage, title, curve, step, value, ...(options.smoothing ? [smooth ? smooth[i][1] : value] : [])]);
      });
    }
  }
  return lines.map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

// `changed` is called when other data are wanted, `redraw` when the same are drawn in another way.
export function wireCurves(changed, redraw) {
  Object.assign(view, { changed, redraw });
  const set = (values) => {
    Object.assign(options, values);
    preferences.curves = options;
    savePreferences();
    redraw();
  };
  byId("smoothing").addEventListener("input", ({ target }) => set({ smoothing: Number(target.value) }));
  byId("log-axis").addEventListener("click", () => set({ log: !options.log }));
  byId("whole").addEventListener("click", () => zoom(null));
  byId("csv").addEventListener("click", () => download(`${view.run}-${view.stage}.csv`, table(), "text/csv;charset=utf-8"));
}
