// What both pages share: preferences, language, theme, elements, and talking to the server.

import { words } from "./words.js";

const PREFERENCES = "chatling.preferences";
const KEY = "chatling.key";
export const DEFAULTS = { temperature: 0.4, top_p: 1, top_k: 0, min_p: 0, repetition_penalty: 1, max_tokens: "", seed: "" };

function stored(name, otherwise) {
  try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
}

export function keep(name, value, replacer) {
  try { localStorage.setItem(name, JSON.stringify(value, replacer)); return true; } catch { return false; }
}

export const read = stored;
const spoken = (code) => (Object.hasOwn(words, code ?? "") ? code : null);
export const preferences = {
  theme: "auto", models: [], compare: false, probabilities: false,
  sampling: { ...DEFAULTS }, ...stored(PREFERENCES, {}),
};

preferences.language = spoken(preferences.language) ?? spoken(navigator.language?.slice(0, 2)) ?? "en";

export function savePreferences() { keep(PREFERENCES, preferences); }

export function t(name, values = {}) {
  const text = words[preferences.language][name] ?? words.en[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

// An element; `attributes` may hold text, class, on… listeners, data, and anything else as attributes.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") element.textContent = value;
    else if (key === "class") element.className = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

const codes = Object.keys(words);
const following = () => codes[(codes.indexOf(preferences.language) + 1) % codes.length];

export function translatePage() {
  document.documentElement.lang = preferences.language;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-placeholder]")) node.placeholder = t(node.dataset.placeholder);
  for (const node of document.querySelectorAll("[data-label]")) {
    const label = t(node.dataset.label, { value: t(preferences.theme), next: words[following()].own });
    node.setAttribute("aria-label", label);
    if (node.matches("button")) node.title = label;
  }
  byId("language").textContent = words[following()].own;
}

// The language and theme buttons; `changed` redraws what is not in the page's own HTML.
export function wireAppearance(changed) {
  byId("language").addEventListener("click", () => {
    preferences.language = following();
    savePreferences();
    translatePage();
    changed();
  });
  byId("theme").addEventListener("click", () => {
    const order = ["auto", "light", "dark"];
    preferences.theme = order[(order.indexOf(preferences.theme) + 1) % order.length];
    savePreferences();
    if (preferences.theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = preferences.theme;
    translatePage();
  });
  translatePage();
}

export class ServerError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

// A request to our own server; asks for the key when it wants one. Raises ServerError.
export async function call(path, { body, signal } = {}) {
  const key = stored(KEY, "");
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(body && { "Content-Type": "application/json" }) };
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, t("offline"));
  }
  if (response.status === 401) {
    const given = await ask(t("keyAsk"), t("enter"), { secret: true, value: "" });
    if (given) {
      keep(KEY, given);
      return call(path, { body, signal });
    }
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => null);
    throw new ServerError(response.status, answer?.error?.message ?? `${response.status} ${response.statusText}`);
  }
  return response;
}

let asking = Promise.resolve();

// A question in a dialog: resolves to true or the text typed, or to null when it was cancelled. One at a time.
export function ask(question, yes, { value, secret } = {}) {
  const answer = asking.then(() => new Promise((resolve) => {
    const dialog = byId("ask"), input = byId("ask-input");
    byId("ask-text").textContent = question;
    byId("ask-yes").textContent = yes;
    input.hidden = value === undefined;
    input.type = secret ? "password" : "text";
    input.value = value ?? "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue ? (value === undefined ? true : input.value.trim()) : null), { once: true });
    input.onkeydown = (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault(); // the first button of the form is Cancel
      dialog.close("yes");
    };
    dialog.showModal();
    (input.hidden ? byId("ask-yes") : input).focus();
  }));
  asking = answer;
  return answer;
}

export function duration(seconds) {
  const s = Math.round(seconds);
  if (s >= 86400) return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return s >= 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s} s`;
}
