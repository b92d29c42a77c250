// The chat page: what is drawn, and what the person does with it. Conversations are kept by store.js, answers come from stream.js.

import { AnswerView, copy, hideAlternatives, plainText } from "./answer.js";
import { byId, call, el, preferences, savePreferences, t, wireAppearance } from "./common.js";
import { wireSettings } from "./settings.js";
import { drawSidebar, wireSidebar } from "./sidebar.js";
import * as store from "./store.js";
import { stream } from "./stream.js";

const ALTERNATIVES = 8; // shown for a token
const state = { models: [], conversation: null, running: new Map(), full: false }; // running: answer -> AbortController

const log = byId("log"), prompt = byId("prompt");
const columns = () => (preferences.compare && state.models.length > 1 ? 2 : 1);
const say = (text) => { byId("status").textContent = text; };
const busy = () => state.running.size > 0;

// ---- models ----

async function loadModels() {
  try {
    state.models = (await (await call("/v1/models")).json()).data;
  } catch (error) {
    say(error.message);
  }
  const ids = state.models.map((model) => model.id);
  const first = ids.includes(preferences.models[0]) ? preferences.models[0] : ids[0];
  const second = ids.includes(preferences.models[1]) ? preferences.models[1] : ids.find((id) => id !== first) ?? first;
  preferences.models = [first, second];
  for (const column of [0, 1]) {
    const select = byId(`model-${column}`);
    const runs = [...new Set(state.models.map((model) => model.run))];
    select.replaceChildren(...runs.map((run) => el("optgroup", { label: run },
      ...state.models.filter((model) => model.run === run).map((model) => el("option", { value: model.id, text: `${run} · ${model.stage}` })))));
    select.value = preferences.models[column] ?? "";
    select.disabled = !ids.length;
    select.onchange = () => { preferences.models[column] = select.value; savePreferences(); draw(); };
  }
}

const model = (column) => state.models.find(({ id }) => id === preferences.models[column]);

// ---- drawing ----

function draw() {
  byId("model-1").hidden = columns() === 1;
  for (const name of ["compare", "probabilities"]) byId(name).setAttribute("aria-pressed", String(preferences[name]));
  byId("compare").disabled = state.models.length < 2;
  document.body.classList.toggle("comparing", columns() === 2);
  hideAlternatives();
  const { turns } = state.conversation;
  log.replaceChildren(...(turns.length ? turns.map(drawTurn) : [welcome()]));
  drawSidebar(state.conversation);
  drawComposer();
}

function drawComposer() {
  byId("send").hidden = busy();
  byId("stop").hidden = !busy();
  byId("send").disabled = !state.models.length;
}

function welcome() {
  if (!state.models.length) return el("div", { class: "welcome" }, el("h2", { text: t("noModels") }), el("p", { text: t("noModelsHint") }));
  const examples = ["example1", "example2", "example3", "example4"].map((name) =>
    el("button", { type: "button", class: "example", text: t(name), onclick: () => send(t(name)) }));
  const hint = t("welcomeHint", { model: model(0).id, context: model(0).context_length.toLocaleString() });
  return el("div", { class: "welcome" }, el("img", { src: "/ui/icon.svg", alt: "", width: "56", height: "56" }), el("h2", { text: t("welcome") }),
    el("p", { text: hint }), el("div", { class: "examples" }, ...examples));
}

function drawTurn(turn, index) {
  const user = el("div", { class: "bubble", text: turn.user });
  const tools = el("div", { class: "actions" },
    button("edit", () => edit(index, user)), el("button", { type: "button", class: "plain", text: t("copy"), onclick: ({ target }) => copy(turn.user, target) }));
  const answers = el("div", { class: "answers" }, ...turn.answers.map((answer, column) => drawAnswer(turn, index, answer, column)));
  return el("article", { class: "turn" }, el("div", { class: "user" }, el("h2", { class: "unseen", text: t("you") }), user, tools), answers);
}

function button(name, onclick) { return el("button", { type: "button", class: "plain", text: t(name), onclick }); }

const views = new WeakMap();

function drawAnswer(turn, index, answer, column) {
  const body = el("div", { class: "body" }), note = el("p", { class: "note", hidden: true });
  const actions = el("div", { class: "actions" });
  const node = el("div", { class: "answer" }, el("h2", { class: "by", text: answer.model }), body, note, actions);
  const view = new AnswerView(body);
  const update = () => {
    const final = !state.running.has(answer);
    view.show(answer, { probabilities: preferences.probabilities, final });
    node.setAttribute("aria-busy", String(!final));
    const notes = [answer.dropped && t("dropped", { count: answer.dropped }), answer.finish === "length" && t("length"),
      answer.finish === "stopped" && t("stopped"), answer.error && t("failed", { message: answer.error })].filter(Boolean);
    note.textContent = notes.join(" ");
    note.hidden = !notes.length;
    note.classList.toggle("error", Boolean(answer.error));
    if (final && !actions.childElementCount) {
      actions.append(el("button", { type: "button", class: "plain", text: t("copy"), onclick: ({ target }) => copy(plainText(answer), target) }));
      if (index === state.conversation.turns.length - 1) actions.append(button("regenerate", () => regenerate(column)));
    }
  };
  views.set(answer, update);
  update();
  return node;
}

function follow(change) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  change();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// ---- asking ----

async function send(text) {
  if (!text.trim() || busy() || !state.models.length) return;
  state.conversation.turns.push({ user: text.trim(), answers: [] });
  state.conversation.title ||= text.trim().slice(0, 60);
  prompt.value = "";
  fitPrompt();
  remember();
  await answerLast([...Array(columns()).keys()]);
}

async function regenerate(column) {
  if (busy() || !state.conversation.turns.length) return;
  const { answers } = state.conversation.turns.at(-1);
  await answerLast(column === undefined ? [...Array(Math.max(columns(), answers.length)).keys()] : [column]);
}

// Answers the last message in these columns, all at once.
async function answerLast(which) {
  const { conversation } = state, turn = conversation.turns.at(-1);
  const started = which.map((column) => {
    const answer = { model: model(column)?.id ?? preferences.models[0], parts: [], tokens: [], finish: null };
    turn.answers[column] = answer;
    state.running.set(answer, new AbortController());
    return { answer, column };
  });
  draw();
  log.scrollTop = log.scrollHeight;
  say(t("answering"));
  await Promise.all(started.map(({ answer, column }) => answerOne(conversation, answer, column)));
  say(t("answered"));
}

async function answerOne(conversation, answer, column) {
  const changed = () => follow(() => views.get(answer)?.());
  const control = state.running.get(answer);
  const { max_tokens, seed, ...sampling } = preferences.sampling;
  const request = {
    model: answer.model, messages: store.messages(conversation, conversation.turns.length - 1, column), ...sampling,
    ...(max_tokens !== "" && { max_tokens }), ...(seed !== "" && { seed }),
    ...(preferences.probabilities && { logprobs: true, top_logprobs: ALTERNATIVES }),
  };
  try {
    await stream(request, answer, changed, control.signal);
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else answer.error = error.message;
  }
  state.running.delete(answer);
  const full = !store.save(conversation);
  if (conversation === state.conversation) {
    changed();
    drawComposer();
    drawSidebar(conversation);
  }
  if (full && !state.full) say(t("storageFull"));
  state.full = full;
}

function stop() {
  for (const control of state.running.values()) control.abort();
}

function edit(index, bubble) {
  if (busy()) return;
  const turn = state.conversation.turns[index];
  const area = el("textarea", { class: "editing", "aria-label": t("edit"), rows: String(Math.min(8, turn.user.split("\n").length + 1)) });
  area.value = turn.user;
  const submit = () => {
    if (!area.value.trim()) return;
    state.conversation.turns.length = index;
    send(area.value);
    prompt.focus();
  };
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); submit(); }
    if (event.key === "Escape") { event.stopPropagation(); draw(); prompt.focus(); }
  });
  bubble.replaceChildren(area);
  bubble.nextElementSibling.replaceChildren(button("resend", submit), button("cancel", draw));
  area.focus();
  area.setSelectionRange(area.value.length, area.value.length);
}

// ---- conversations ----

function open(conversation) {
  stop();
  state.conversation = conversation;
  byId("system").value = conversation.system;
  remember();
  draw();
  log.scrollTop = log.scrollHeight;
}

// In the address, so that a reload comes back to it.
function remember() {
  history.replaceState(null, "", state.conversation.turns.length ? `#${state.conversation.id}` : location.pathname);
}

function startNew() {
  open(store.fresh(state.conversation?.turns.length ? state.conversation.system : byId("system").value));
  prompt.focus();
}

// ---- wiring ----

function toggle(name) {
  preferences[name] = !preferences[name];
  savePreferences();
  draw();
}

function fitPrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight, innerHeight * 0.4)}px`;
}

const KEYS = {
  KeyN: startNew, KeyR: () => regenerate(), KeyC: () => columns() && state.models.length > 1 && toggle("compare"), KeyP: () => toggle("probabilities"),
  KeyS: () => byId("settings").showModal(),
};

function wire() {
  byId("composer").addEventListener("submit", (event) => { event.preventDefault(); send(prompt.value); });
  byId("stop").addEventListener("click", () => { stop(); prompt.focus(); });
  byId("compare").addEventListener("click", () => toggle("compare"));
  byId("probabilities").addEventListener("click", () => toggle("probabilities"));
  prompt.addEventListener("input", fitPrompt);
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(prompt.value); }
    const last = state.conversation.turns.length - 1;
    if (event.key === "ArrowUp" && !prompt.value && last >= 0) {
      event.preventDefault();
      edit(last, log.querySelectorAll(".bubble")[last]);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) { stop(); hideAlternatives(); }
    const typing = event.target.matches?.("input, textarea, select");
    if (event.key === "/" && !typing) { event.preventDefault(); prompt.focus(); }
    if (event.altKey && !event.ctrlKey && !event.metaKey && KEYS[event.code] && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      KEYS[event.code]();
    }
  });
  log.addEventListener("scroll", hideAlternatives);
  wireSettings((system) => {
    state.conversation.system = system;
    if (state.conversation.turns.length) store.save(state.conversation);
  });
  wireSidebar({ open, startNew, removed: () => open(store.all()[0] ?? store.fresh("")), current: () => state.conversation, redraw: draw });
  wireAppearance(() => { draw(); wireSettings.redraw(); });
}

state.conversation = store.find(location.hash.slice(1)) ?? store.fresh("");
byId("system").value = state.conversation.system;
wire();
await loadModels();
draw();
log.scrollTop = log.scrollHeight;
prompt.focus();
