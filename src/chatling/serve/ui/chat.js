// The chat page: what is drawn, and what the person does with it. Conversations are kept by store.js, answers come from stream.js.

import { hideAlternatives, plainText } from "./answer.js";
import { byId, call, el, preferences, savePreferences, t, wireAppearance } from "./common.js";
import { notice } from "./notice.js";
import { wireSettings } from "./settings.js";
import { drawSidebar, wireSidebar } from "./sidebar.js";
import * as store from "./store.js";
import { stream } from "./stream.js";
import { showPairs } from "./teach.js";
import { drawAgain, drawTurn } from "./turns.js";

const ALTERNATIVES = 8; // shown for a token
const CONTINUED = 64; // tokens that a base model writes unless told otherwise
const SAVED_EVERY = 1000; // milliseconds, while an answer comes
const state = { models: [], conversation: null, running: new Map(), editing: null, full: false, examples: new Map() }; // running: answer -> AbortController

const log = byId("log"), prompt = byId("prompt");
const columns = () => (preferences.compare && state.models.length > 1 ? 2 : 1);
const say = (text) => { byId("status").textContent = text; };
const busy = () => state.running.size > 0;

// ---- models ----

async function loadModels() {
  try {
    state.models = (await (await call("/v1/models")).json()).data;
  } catch (error) {
    notice(error.message);
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
    select.onchange = () => { preferences.models[column] = select.value; savePreferences(); draw(); modelChosen(); };
  }
  modelChosen();
}

const model = (column) => state.models.find(({ id }) => id === preferences.models[column]);
// A base model has seen texts and no conversations: it is given the beginning of one.
const continues = (column) => ["base", "extend"].includes(model(column)?.stage);

async function modelChosen() {
  const chosen = model(0);
  if (!chosen) return;
  showPairs(chosen.run);
  if (state.examples.has(chosen.id)) return;
  state.examples.set(chosen.id, []);
  try {
    const found = await call(`/api/runs/${encodeURIComponent(chosen.run)}/examples?stage=${encodeURIComponent(chosen.stage)}`);
    state.examples.set(chosen.id, (await found.json()).prompts);
  } catch {
    return; // the page is whole without them
  }
  if (!state.conversation.next.length) draw();
}

// ---- drawing ----

function draw() {
  byId("model-1").hidden = columns() === 1;
  for (const name of ["compare", "probabilities"]) byId(name).setAttribute("aria-pressed", String(preferences[name]));
  byId("compare").disabled = state.models.length < 2;
  document.body.classList.toggle("comparing", columns() === 2);
  hideAlternatives();
  const turns = store.turns(state.conversation);
  log.replaceChildren(...(turns.length ? turns.map((turn, index) => drawTurn(turn, index, page)) : [welcome()]));
  drawSidebar(state.conversation);
  drawComposer();
}

function drawComposer() {
  byId("send").hidden = busy();
  byId("stop").hidden = !busy();
  byId("send").disabled = !state.models.length;
  prompt.placeholder = t(continues(0) && (columns() === 1 || continues(1)) ? "writeBeginning" : "write");
}

function welcome() {
  if (!state.models.length) return el("div", { class: "welcome" }, el("h2", { text: t("noModels") }), el("p", { text: t("noModelsHint") }));
  const examples = (state.examples.get(model(0).id) ?? []).map((text) => el("button", { type: "button", class: "example", text, onclick: () => send(text) }));
  const { id, context_length: context, error } = model(0);
  const hint = error ? el("p", { class: "error-text", role: "alert", text: error })
    : el("p", { text: t(continues(0) ? "beginHint" : "welcomeHint", { model: id, context: context.toLocaleString() }) });
  return el("div", { class: "welcome" }, el("img", { src: "/ui/icon.svg", alt: "", width: "56", height: "56" }), el("h2", { text: t(continues(0) ? "begin" : "welcome") }),
    hint, el("div", { class: "examples" }, ...examples));
}

function follow(change) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  change();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// ---- asking ----

async function send(text) {
  if (!text.trim() || busy() || !state.models.length) return;
  prompt.value = "";
  fitPrompt();
  saveDraft();
  await ask(store.turns(state.conversation).length, text.trim());
}

// A message at this place of the conversation, and its answers.
async function ask(index, text) {
  const { conversation } = state;
  conversation.title ||= text.slice(0, 60);
  store.add(conversation, index, text);
  remember();
  await answerLast([...Array(columns()).keys()]);
}

// One more version of the last answers; what has no text yet is only tried again.
async function regenerate(column) {
  const { conversation } = state, turns = store.turns(conversation);
  if (busy() || !turns.length) return;
  const { user, answers } = turns.at(-1);
  const which = column === undefined ? [...Array(Math.max(columns(), answers.length)).keys()] : [column];
  if (which.some((each) => answers[each]?.parts.length)) store.add(conversation, turns.length - 1, user, [...answers]);
  await answerLast(which);
}

// Answers the last message in these columns, all at once.
async function answerLast(which) {
  const { conversation } = state, turns = store.turns(conversation), turn = turns.at(-1);
  const started = which.map((column) => {
    const answer = { model: model(column)?.id ?? preferences.models[0], parts: [], tokens: [], finish: null, ...(continues(column) && { continues: true }) };
    turn.answers[column] = answer;
    return [answer, answer.continues ? { prompt: turn.user } : { messages: store.messages(conversation, turns.length - 1, column), truncation: "auto" }];
  });
  await run(conversation, turn, started);
}

// More of the text that a base model has begun.
async function lengthen(index, answer) {
  const { conversation } = state, turn = store.turns(conversation)[index];
  if (busy()) return;
  const known = preferences.probabilities && answer.tokens?.length; // of all that is there
  Object.assign(answer, { finish: null, stats: undefined, error: undefined, tokens: known ? answer.tokens : null });
  await run(conversation, turn, [[answer, { prompt: turn.user + plainText(answer) }]]);
}

// Has these answers of a turn written, each from what is asked.
async function run(conversation, turn, started) {
  for (const [answer] of started) state.running.set(answer, new AbortController());
  save(conversation);
  draw();
  log.scrollTop = log.scrollHeight;
  say(t("answering"));
  await Promise.all(started.map(([answer, asked]) => answerOne(conversation, answer, asked)));
  for (const answer of turn.answers) drawAgain(answer); // what can be done with them, once all are there
  say(t("answered"));
}

async function answerOne(conversation, answer, asked) {
  let saved = Date.now();
  const changed = () => {
    follow(() => drawAgain(answer));
    if (Date.now() - saved < SAVED_EVERY) return;
    save(conversation);
    saved = Date.now();
  };
  const control = state.running.get(answer), { continues } = answer;
  const { max_tokens, seed, ...sampling } = preferences.sampling;
  const most = max_tokens !== "" ? max_tokens : continues && CONTINUED;
  const request = {
    model: answer.model, ...asked, ...sampling, ...(most && { max_tokens: most }), ...(seed !== "" && { seed }),
    ...(preferences.probabilities && (continues ? { logprobs: ALTERNATIVES } : { logprobs: true, top_logprobs: ALTERNATIVES })),
  };
  try {
    await stream(continues ? "/v1/completions" : "/v1/chat/completions", request, answer, changed, control.signal);
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else answer.error = error.message;
  }
  state.running.delete(answer);
  save(conversation);
  if (conversation === state.conversation) {
    follow(() => drawAgain(answer));
    drawComposer();
    drawSidebar(conversation);
  }
}

function save(conversation = state.conversation) {
  const full = !store.save(conversation);
  if (full && !state.full) notice(t("storageFull"));
  state.full = full;
}

function stop() {
  for (const control of state.running.values()) control.abort();
}

function edit(index) {
  if (busy()) return;
  state.editing = { index, text: store.turns(state.conversation)[index].user };
  draw();
  const area = log.querySelector(".editing");
  area.focus();
  area.setSelectionRange(area.value.length, area.value.length);
}

function resend() {
  const { index, text } = state.editing;
  if (!text.trim() || busy()) return;
  state.editing = null;
  ask(index, text.trim());
  prompt.focus();
}

const messages = (index, column) => store.messages(state.conversation, index, column);
const page = { state, busy, draw, edit, resend, regenerate, lengthen, save, messages };

// ---- conversations ----

function open(conversation) {
  stop();
  state.conversation = conversation;
  state.editing = null;
  byId("system").value = conversation.system;
  remember();
  saveDraft();
  draw();
  log.scrollTop = log.scrollHeight;
}

// In the address, so that a reload comes back to it.
function remember() {
  history.replaceState(null, "", state.conversation.next.length ? `#${state.conversation.id}` : location.pathname);
}

function startNew() {
  open(store.fresh(state.conversation.system));
  prompt.focus();
}

// Another tab has written: its words are shown, unless an answer comes here, which is kept beside them.
function changedElsewhere() {
  if (!busy()) state.conversation = store.find(state.conversation.id) ?? state.conversation;
  if (busy()) drawSidebar(state.conversation);
  else draw();
}

function saveDraft() { store.saveDraft({ prompt: prompt.value, system: state.conversation.system }); }

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
  prompt.addEventListener("input", () => { fitPrompt(); saveDraft(); });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(prompt.value); }
    const last = store.turns(state.conversation).length - 1;
    if (event.key === "ArrowUp" && !prompt.value && last >= 0) { event.preventDefault(); edit(last); }
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
    saveDraft();
    if (state.conversation.next.length) save();
  });
  wireSidebar({ open, startNew, removed: () => open(store.all()[0] ?? store.fresh("")), changed: changedElsewhere, current: () => state.conversation, redraw: draw });
  wireAppearance(() => { draw(); wireSettings.redraw(); });
  addEventListener("pagehide", () => { if (busy()) save(); });
}

const draft = store.draft();
state.conversation = store.find(location.hash.slice(1)) ?? store.fresh(draft.system);
prompt.value = draft.prompt;
byId("system").value = state.conversation.system;
wire();
await loadModels();
draw();
log.scrollTop = log.scrollHeight;
prompt.focus();
