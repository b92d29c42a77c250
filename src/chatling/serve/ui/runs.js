// The dashboard: asks the server every few seconds what the run folders say.

import { Chart, figure } from "./charts.js";
import { byId, call, duration, el, t, wireAppearance } from "./common.js";

const FAST = 2000, SLOW = 10000; // milliseconds between looks: at a live run, at others
const ORDER = ["loss", "reward", "val_bpb", "val_loss", "tokens_per_second", "val_accuracy", "rate", "gradient_norm"];
const state = { runs: [], name: decodeURIComponent(location.hash.slice(1)), run: null, stage: null, charts: new Map(), timer: 0 };

async function look() {
  clearTimeout(state.timer);
  try {
    state.runs = (await (await call("/api/runs")).json()).runs;
    if (!state.runs.some((run) => run.name === state.name)) state.name = (state.runs.find((run) => run.alive) ?? state.runs[0])?.name;
    state.run = state.name ? await (await call(`/api/runs/${encodeURIComponent(state.name)}`)).json() : null;
    state.error = null;
  } catch (error) {
    state.error = error.message;
  }
  draw();
  schedule();
}

function schedule() {
  clearTimeout(state.timer);
  if (!document.hidden) state.timer = setTimeout(look, state.run?.alive ? FAST : SLOW);
}

const STATES = { running: "running", done: "done", failed: "failedState", "cut off": "cutOff" };
const stateOf = (status) => (STATES[status] ? t(STATES[status]) : status);

function draw() {
  const select = byId("run");
  select.hidden = !state.runs.length;
  if (document.activeElement !== select || select.options.length !== state.runs.length) {
    select.replaceChildren(...state.runs.map((run) => el("option", { value: run.name, text: run.alive ? `${run.name} ●` : run.name })));
  }
  select.value = state.name ?? "";
  if (state.error && !state.run) return show(el("p", { class: "error-text", role: "alert", text: state.error }));
  if (!state.run) return show(el("div", { class: "welcome" }, el("h1", { text: t("noRuns") }), el("p", { text: t("noRunsHint") })));
  document.title = `${state.run.name} · chatling`;
  const focused = document.activeElement?.dataset?.stage;
  show(title(), stages(), ...curves(), ...samples(), ...evaluations());
  if (focused) document.querySelector(`[data-stage="${CSS.escape(focused)}"]`)?.focus();
  return undefined;
}

const show = (...children) => byId("main").replaceChildren(...children);

function title() {
  const { run } = state;
  const badge = run.alive ? `${t("running")} · ${t("process", { process: run.process })}` : t("notRunning");
  const problem = state.error ?? run.error ?? run.stages.find((stage) => stage.error && stage.status !== "done")?.error;
  return el("div", {}, el("div", { class: "run-title" }, el("h1", { text: run.name }), el("span", { class: `badge ${run.alive ? "alive" : ""}`, text: badge }),
    el("span", { class: "hint", text: t("updated", { time: new Date().toLocaleTimeString() }) })),
  problem ? el("p", { class: "error-text", text: problem }) : null);
}

function stages() {
  const { run } = state;
  const withCurves = run.stages.map((stage) => stage.name).filter((name) => run.curves[name]);
  if (!withCurves.includes(state.stage)) state.stage = run.stages.find((stage) => stage.status === "running" && run.curves[stage.name])?.name ?? withCurves.at(-1) ?? null;
  return el("ul", { id: "stages", "aria-label": t("stage") }, ...run.stages.map((stage) => {
    const share = stage.status === "done" ? 1 : stage.steps ? stage.step / stage.steps : 0;
    const facts = [
      stage.step !== null && stage.steps && t("steps", { step: stage.step.toLocaleString("en"), steps: stage.steps.toLocaleString("en") }),
      stage.left !== null && run.alive ? t("left", { time: duration(stage.left) }) : t("took", { time: duration(stage.seconds) }),
      stage.resumes && t("resumes", { count: stage.resumes }),
    ].filter(Boolean);
    const button = el("button", {
      type: "button", class: "stage", "data-stage": stage.name, "aria-pressed": String(stage.name === state.stage), disabled: !run.curves[stage.name],
      onclick: () => { state.stage = stage.name; state.charts.clear(); draw(); },
    },
    el("strong", {}, el("span", { text: stage.name }), el("span", { class: `state ${stage.status === "failed" ? "failed" : ""}`, text: stateOf(stage.status) })),
    el("progress", { max: "1", value: String(share), "aria-label": stage.name }), ...facts.map((fact) => el("small", { text: fact })));
    return el("li", {}, button);
  }));
}

function curves() {
  const found = state.stage && state.run.curves[state.stage];
  if (!found) return [el("p", { class: "hint", text: t("noCurves") })];
  const rank = (name) => (ORDER.indexOf(name) + 1 || 99);
  const names = Object.keys(found).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  const charts = names.map((name) => {
    if (!state.charts.has(name)) state.charts.set(name, new Chart(name));
    const chart = state.charts.get(name);
    chart.draw(found[name]);
    return chart.node;
  });
  return [el("section", { "aria-labelledby": "curves-title" }, el("h2", { id: "curves-title", text: `${t("charts")} · ${state.stage}` }), el("div", { id: "charts" }, ...charts))];
}

function samples() {
  const found = Object.entries(state.run.samples).filter(([, latest]) => Array.isArray(latest?.samples));
  if (!found.length) return [];
  return [el("section", { "aria-labelledby": "samples-title" }, el("h2", { id: "samples-title", text: t("samples") }), ...found.map(([stage, latest]) =>
    el("div", { class: "sample" }, el("h3", { text: `${stage} · ${t("samplesAt", { step: latest.step })}` }),
      el("dl", {}, ...latest.samples.flatMap((sample) => [el("dt", { text: String(sample.prompt) }), el("dd", { text: String(sample.text) })])))))];
}

function evaluations() {
  if (!state.run.evals.length) return [];
  return [el("section", { "aria-labelledby": "evals-title" }, el("h2", { id: "evals-title", text: t("evals") }),
    ...state.run.evals.map(({ file, values }) => el("div", { class: "eval" }, el("h3", { text: file }), scores(rows(values)))))];
}

const FACTS = ["seed", "questions", "step", "shots", "limit"]; // how it was done, not what came of it

// What can be shown of an evaluation: rows {name, share?, interval?, text}. The results are a list of tasks, or figures and tasks by name.
function rows(values) {
  const found = Object.entries(values ?? {}).filter(([name, value]) => typeof value === "number" && !FACTS.includes(name))
    .map(([name, value]) => ({ name, text: figure(value) }));
  if (values?.results && !Array.isArray(values.results)) found.push(...rows(values.results));
  for (const result of Array.isArray(values?.results) ? values.results : []) {
    if (typeof result?.accuracy !== "number") continue;
    const chance = result.baseline ? ` · ${t("chance", { percent: Math.round(result.baseline * 100) })}` : "";
    found.push({ name: result.name, share: result.accuracy, interval: result.interval, text: `${(result.accuracy * 100).toFixed(1)} % · ${t("questions", result)}${chance}` });
  }
  for (const [name, task] of Object.entries(values?.tasks ?? {})) {
    if (typeof task?.accuracy === "number") found.push({ name, share: task.accuracy, text: `${(task.accuracy * 100).toFixed(1)} %${typeof task.centered === "number" ? ` (${figure(task.centered)})` : ""}` });
  }
  return found;
}

function scores(found) {
  return el("div", { class: "scores" }, ...found.flatMap(({ name, share, interval, text }) => {
    const bar = el("span", share === undefined ? {} : { class: "score-bar" });
    if (share !== undefined) {
      bar.style.setProperty("--share", Math.max(0, share));
      for (const end of interval ?? []) {
        const mark = el("i");
        mark.style.setProperty("--share", end);
        bar.append(mark);
      }
    }
    return [el("span", { text: name }), bar, el("span", { class: "figure", text })];
  }));
}

byId("run").addEventListener("change", (event) => {
  state.name = event.target.value;
  state.stage = null;
  state.charts.clear();
  history.replaceState(null, "", `#${encodeURIComponent(state.name)}`);
  look();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(state.timer) : look()));
wireAppearance(draw);
look();
