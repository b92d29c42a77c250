// The dashboard: asks the server every few seconds what the run folders say.

import { byId, call, duration, el, preferences, read, t, wireAppearance } from "./common.js";
import { download } from "./download.js";
import { drawCurves, fetchCurves, wireCurves } from "./runs_curves.js";
import { evaluations, samples } from "./runs_results.js";

const FAST = 2000, SLOW = 10000; // milliseconds between looks: at a live run, at others

// An address that was mistyped names no run.
function decoded(text) {
  try { return decodeURIComponent(text); } catch { return ""; }
}

// `name` and `stage` are those that the person chose; without a choice the page follows what trains.
const state = { runs: [], name: decoded(location.hash.slice(1)), stage: null, run: null, error: null, timer: 0, looks: 0 };

async function look() {
  clearTimeout(state.timer);
  const mine = ++state.looks; // a later look, at another run, may overtake this one
  const found = { error: null };
  try {
    found.runs = (await (await call("/api/runs")).json()).runs;
    const name = (found.runs.find((run) => run.name === state.name) ?? found.runs.find((run) => run.alive) ?? found.runs[0])?.name;
    found.run = name ? await (await call(`/api/runs/${encodeURIComponent(name)}?language=${preferences.language}`)).json() : null;
    const stage = found.run && shownStage(found.run);
    if (stage && mine === state.looks) await fetchCurves(name, stage);
  } catch (error) {
    found.error = error.message;
  }
  if (mine !== state.looks) return;
  Object.assign(state, found);
  draw();
  if (!document.hidden) state.timer = setTimeout(look, state.run?.alive ? FAST : SLOW);
}

// The stage whose curves are shown: the chosen one, else the one that trains, else the last.
function shownStage(run, chosen = state.stage) {
  const drawn = run.stages.filter(({ name }) => run.curves[name]);
  return (drawn.find(({ name }) => name === chosen) ?? drawn.find(({ status }) => status === "running") ?? drawn.at(-1))?.name ?? null;
}

const STATES = { running: "running", done: "done", interrupted: "stoppedState", failed: "failedState", "cut off": "cutOff" };
const stateOf = (status) => (STATES[status] ? t(STATES[status]) : status);

function draw() {
  const select = byId("run"), { run } = state;
  select.hidden = !state.runs.length;
  const names = state.runs.map(({ name, alive }) => (alive ? `${name} ●` : name));
  if (select.dataset.names !== names.join("\n")) {
    select.dataset.names = names.join("\n");
    select.replaceChildren(...state.runs.map(({ name }, i) => el("option", { value: name, text: names[i] })));
  }
  select.value = run?.name ?? "";
  byId("found").hidden = !run;
  const kept = document.activeElement?.dataset?.keep;
  byId("title").replaceChildren(...(run ? title() : nothing()));
  if (!run) return;
  document.title = `${run.name} · chatling`;
  const stage = shownStage(run);
  byId("stages").replaceChildren(...run.stages.map((each) => el("li", {}, card(each, each.name === stage))));
  if (kept) document.querySelector(`[data-keep="${CSS.escape(kept)}"]`)?.focus();
  drawCurves(run, stage, state.runs);
  fill("samples", run.samples, samples);
  fill("evals", run.evals, evaluations);
}

function nothing() {
  if (state.error) return [el("p", { class: "error-text", role: "alert", text: state.error })];
  return [el("div", { class: "welcome" }, el("h1", { text: t("noRuns") }), el("p", { text: t("noRunsHint") }))];
}

// A section is drawn again when what it shows has changed: a reader may have marked some of it.
function fill(id, found, make) {
  const section = byId(id), key = `${preferences.language} ${JSON.stringify(found)}`;
  if (section.key === key) return;
  section.key = key;
  const made = make(found);
  section.hidden = !made.length;
  section.lastElementChild.replaceChildren(...made);
}

function title() {
  const { run } = state;
  const problem = state.error ?? run.error ?? run.stages.find((stage) => stage.error && stage.status !== "done")?.error;
  const chosen = state.stage && shownStage(run) !== shownStage(run, null);
  return [
    el("div", { class: "run-title" }, el("h1", { text: run.name }),
      el("span", { class: `badge ${run.alive ? "alive" : ""}`, text: run.alive ? `${t("running")} · ${t("process", { process: run.process })}` : t("notRunning") }),
      run.left ? el("span", { id: "left", text: t("leftAll", { time: duration(run.left) }) }) : null,
      run.report ? el("a", { href: `/runs/${encodeURIComponent(run.name)}/report`, "data-keep": "report", text: t("report"), onclick: openReport }) : null,
      run.alive && chosen ? el("button", { type: "button", class: "toggle", "data-keep": "follow", text: t("follow"), onclick: () => show(null) }) : null,
      el("span", { class: "hint", text: t("updated", { time: new Date().toLocaleTimeString() }) })),
    ...(problem ? [el("p", { class: "error-text", text: problem })] : []),
  ];
}

// A link cannot carry the server's key: with one, the report is saved as a file.
async function openReport(event) {
  if (!read("chatling.key", "")) return;
  event.preventDefault();
  const { name } = state.run;
  try {
    download(`${name}-report.html`, await (await call(event.target.getAttribute("href"))).text(), "text/html");
  } catch (error) {
    state.error = error.message;
    draw();
  }
}

function card(stage, shown) {
  const { run } = state;
  const share = stage.status === "done" ? 1 : stage.steps ? stage.step / stage.steps : 0;
  const facts = [
    stage.step !== null && stage.steps && t("steps", { step: stage.step.toLocaleString("en"), steps: stage.steps.toLocaleString("en") }),
    stage.left !== null && run.alive ? t("left", { time: duration(stage.left) }) : t("took", { time: duration(stage.seconds) }),
    stage.resumes && t("resumes", { count: stage.resumes }),
    stage.standing && t(`${stage.standing.word}Loss`, { low: stage.standing.low.toFixed(3), high: stage.standing.high.toFixed(3) }),
  ].filter(Boolean);
  const button = { type: "button", "data-keep": `stage ${stage.name}`, "aria-pressed": String(shown), onclick: () => show(stage.name === shownStage(run, null) ? null : stage.name) };
  return el(run.curves[stage.name] ? "button" : "div", { class: "stage", ...(run.curves[stage.name] && button) },
    el("strong", {}, el("span", { text: stage.name }), el("span", { class: `state ${stage.status === "failed" ? "failed" : ""}`, text: stateOf(stage.status) })),
    el("progress", { max: "1", value: String(share), "aria-label": stage.name }), ...facts.map((fact) => el("small", { text: fact })));
}

// Shows a stage; null is whichever trains.
function show(stage) {
  state.stage = stage;
  look();
}

byId("run").addEventListener("change", (event) => {
  Object.assign(state, { name: event.target.value, stage: null });
  history.replaceState(null, "", `#${encodeURIComponent(state.name)}`);
  look();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(state.timer) : look()));
wireCurves(look, draw);
wireAppearance(look); // the titles of charts come from the server
look();
