// Conversations in the browser's storage, and nowhere else. Each is a tree, so that an edited message or another answer is one more version:
// {id, title, created, updated, system, chosen, next: [{id, user, system, answers: […], better, chosen, next: […]}, …]}. `next` has the versions
// of what follows; `better` is the answer that was preferred, from which the conversation continues.

import { keep, read } from "./common.js";

export const NAME = "chatling.conversations";
const DRAFT = "chatling.draft"; // what is typed and not sent: {prompt, system}
let conversations = stored();
const removed = new Set(); // ids; what still runs must not bring one back

export const all = () => [...conversations].sort((a, b) => b.updated - a.updated);
export const find = (id) => conversations.find((conversation) => conversation.id === id);
export const draft = () => ({ prompt: "", system: "", ...read(DRAFT, {}) });
export const saveDraft = (text) => keep(DRAFT, text);

function stored() {
  const found = read(NAME, []);
  return Array.isArray(found) ? found.filter((each) => each?.id).map(asTree) : [];
}

// Conversations of an earlier page were a list of turns.
function asTree({ turns, ...conversation }) {
  const fold = (i) => ({ chosen: 0, next: i < (turns?.length ?? 0) ? [{ id: String(i), ...turns[i], ...fold(i + 1) }] : [] });
  return conversation.next ? conversation : { ...conversation, ...fold(0) };
}

const newId = () => crypto.randomUUID?.() ?? String(Math.random()).slice(2);

export function fresh(system) {
  return { id: newId(), title: "", created: Date.now(), updated: Date.now(), system, chosen: 0, next: [] };
}

// The turns that are shown: in each place the version that was chosen.
export function turns(conversation) {
  const found = [];
  for (let node = conversation; node.next.length; found.push(node)) node = node.next[node.chosen];
  return found;
}

const parent = (conversation, index) => (index ? turns(conversation)[index - 1] : conversation);
export const versions = (conversation, index) => parent(conversation, index).next;
export const choose = (conversation, index, turn) => { parent(conversation, index).chosen = versions(conversation, index).indexOf(turn); };

// A turn at this place, as the version that is shown.
export function add(conversation, index, user, answers = []) {
  const turn = { id: newId(), user, system: conversation.system, answers, chosen: 0, next: [] };
  versions(conversation, index).push(turn);
  choose(conversation, index, turn);
  return turn;
}

// Keeps it; false when the storage is full. Another tab may have written meanwhile: what it added stays.
export function save(conversation) {
  if (removed.has(conversation.id)) return true;
  conversation.updated = Date.now();
  const found = stored(), before = found.find(({ id }) => id === conversation.id);
  if (before) graft(conversation, before);
  return write([...found.filter((other) => other !== before), conversation]);
}

function graft(into, from) {
  for (const turn of from.next) {
    const mine = into.next.find(({ id }) => id === turn.id);
    if (mine) graft(mine, turn);
    else into.next.push(turn);
  }
}

export function remove(conversation) {
  removed.add(conversation.id);
  write(stored().filter((other) => other.id !== conversation.id));
}

export function restore(conversation) {
  removed.delete(conversation.id);
  return save(conversation);
}

export function reload() { conversations = stored(); }

const MOMENTARY = ["tokens"]; // what only a moment needs (tokens with their alternatives) is not worth the storage

function write(changed) {
  conversations = changed;
  return keep(NAME, changed, (name, value) => (MOMENTARY.includes(name) && Array.isArray(value) ? undefined : value));
}

// The messages that a model is to answer: everything before `upTo`'s answer, as column `column` saw it, without what got no answer.
export function messages(conversation, upTo, column) {
  const path = turns(conversation).slice(0, upTo + 1), system = (path.at(-1)?.system ?? conversation.system).trim();
  const found = system ? [{ role: "system", content: system }] : [];
  path.forEach((turn, i) => {
    const parts = content(shown(turn, column));
    if (i === upTo || parts.length) found.push({ role: "user", content: turn.user });
    if (i < upTo && parts.length) found.push({ role: "assistant", content: parts });
  });
  return found;
}

const shown = (turn, column) => turn?.answers[turn.better ?? column] ?? turn?.answers[0];

// What a model said in a conversation; a base model's continuation of a text is none.
export const content = (answer) => (answer?.continues ? [] : answer?.parts ?? []).filter((part) => part.text).map(({ type, text }) => ({ type, text }));

// A line that `chatling data` and the recipes read to learn from: a conversation, or the texts that a base model continued.
export function exported(conversation) {
  const path = turns(conversation), title = conversation.title, answers = path[0]?.answers ?? [];
  const column = answers.findIndex((answer) => !answer.continues);
  if (column < 0) return { title, text: path.map((turn) => turn.user + turn.answers[0].parts.map((part) => part.text).join("")).join("\n\n") };
  const last = content(shown(path.at(-1), column)), all = messages(conversation, path.length - 1, column);
  if (last.length) all.push({ role: "assistant", content: last });
  return { title, models: answers.map((answer) => answer.model), messages: all };
}
