// A line above the message box that says what just happened, with a button that takes it back.

import { byId, el, t } from "./common.js";

const SHOWN = 60000; // milliseconds
let timer = 0;

export function notice(text, action, onclick) {
  const close = () => byId("notice").replaceChildren();
  const undo = action && el("button", { type: "button", class: "primary", text: action, onclick: () => { close(); onclick(); } });
  byId("notice").replaceChildren(el("div", {}, el("span", { text }), undo,
    el("button", { type: "button", class: "icon", text: "✕", "aria-label": t("close"), onclick: close })));
  clearTimeout(timer);
  timer = setTimeout(close, SHOWN);
}
