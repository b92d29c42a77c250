// Conversations in the browser's storage, and nowhere else. Each: {id, title, created, updated, system, turns: [{user, answers: […]}]}.

import { keep, read } from "./common.js";

const NAME = "chatling.conversations";
let conversations = read(NAME, []);
if (!Array.isArray(conversations)) conversations = [];

export const all = () => [...conversations].sort((a, b) => b.updated - a.updated);
export const find = (id) => conversations.find((conversation) => conversation.id === id);

export function fresh(system) {
  return { id: crypto.randomUUID?.() ?? String(Math.random()).slice(2), title: "", created: Date.now(), updated: Date.now(), system, turns: [] };
}

// Keeps it; false when the storage is full. Another tab may have written meanwhile: only this conversation is replaced.
export function save(conversation) {
  conversation.updated = Date.now();
  return write([...read(NAME, []).filter((other) => other.id !== conversation.id), conversation]);
}

export function remove(id) { write(read(NAME, []).filter((conversation) => conversation.id !== id)); }

export function reload() { conversations = read(NAME, []); }

function write(changed) {
  conversations = changed;
  // What only a moment needs (tokens with their alternatives) is not worth the storage.
  return keep(NAME, changed.map((conversation) => ({
    ...conversation, turns: conversation.turns.map((turn) => ({ ...turn, answers: turn.answers.map(({ tokens, busy, ...answer }) => answer) })),
  })));
}

// The messages that a model is to answer: everything before `upTo`'s answer, as column `column` saw it, without what got no answer.
export function messages(conversation, upTo, column) {
  const found = conversation.system.trim() ? [{ role: "system", content: conversation.system.trim() }] : [];
  conversation.turns.slice(0, upTo + 1).forEach((turn, i) => {
    const parts = content(turn.answers[column] ?? turn.answers[0]);
    if (i === upTo || parts.length) found.push({ role: "user", content: turn.user });
    if (i < upTo && parts.length) found.push({ role: "assistant", content: parts });
  });
  return found;
}

const content = (answer) => (answer?.parts ?? []).filter((part) => part.text).map(({ type, text }) => ({ type, text }));

// A line that `chatling data` and the recipes read as a conversation to learn from.
export function exported(conversation) {
  const answers = conversation.turns.map((turn) => content(turn.answers[0]));
  const all = messages(conversation, conversation.turns.length - 1, 0);
  if (answers.at(-1)?.length) all.push({ role: "assistant", content: answers.at(-1) });
  return { title: conversation.title, models: conversation.turns[0]?.answers.map((answer) => answer.model) ?? [], messages: all };
}
