// The settings panel: system prompt and sampling; and the list of keys.

import { byId, DEFAULTS, el, preferences, savePreferences, t } from "./common.js";

const FIELDS = {
  temperature: { min: 0, max: 2, step: 0.05 }, top_p: { min: 0.05, max: 1, step: 0.05 }, top_k: { min: 0, max: 200, step: 1 },
  min_p: { min: 0, max: 0.5, step: 0.01 }, repetition_penalty: { min: 0.8, max: 2, step: 0.05 },
  max_tokens: { min: 1, step: 1, number: true }, seed: { min: 0, step: 1, number: true },
};
const KEYS = [
  ["Enter", "keySend"], ["Shift + Enter", "keyBreak"], ["Esc", "keyStop"], ["↑", "keyEdit"], ["/", "keyFocus"], ["Alt + N", "keyNew"],
  ["Alt + R", "keyRegenerate"], ["Alt + C", "keyCompare"], ["Alt + P", "keyProbabilities"], ["Alt + S", "keySettings"],
];

function field(name, { number, ...range }) {
  const value = preferences.sampling[name];
  const shown = el("output", { text: String(value), "aria-hidden": "true" });
  const input = el("input", {
    type: number ? "number" : "range", id: `sampling-${name}`, ...range, value: String(value), "aria-describedby": `hint-${name}`,
    oninput: () => {
      if (!input.checkValidity()) return;
      preferences.sampling[name] = input.value === "" ? "" : Number(input.value);
      shown.textContent = input.value;
      savePreferences();
    },
  });
  return el("div", { class: "field" },
    el("div", { class: "label" }, el("label", { for: input.id, text: t(name) }), number ? null : shown), input,
    el("p", { class: "hint", id: `hint-${name}`, text: t(`${name}Hint`) }));
}

function draw() {
  byId("sliders").replaceChildren(...Object.entries(FIELDS).map(([name, options]) => field(name, options)));
  byId("keys").replaceChildren(...KEYS.flatMap(([key, name]) => [el("dt", {}, el("kbd", { text: key })), el("dd", { text: t(name) })]));
}

export function wireSettings(systemChanged) {
  byId("settings-open").addEventListener("click", () => byId("settings").showModal());
  byId("shortcuts-open").addEventListener("click", () => byId("shortcuts").showModal());
  byId("system").addEventListener("input", (event) => systemChanged(event.target.value));
  byId("reset").addEventListener("click", () => {
    preferences.sampling = { ...DEFAULTS };
    savePreferences();
    draw();
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside it
  }
  draw();
}

wireSettings.redraw = draw;
