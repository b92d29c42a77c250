// A message with its answers, and the versions of both.

import { AnswerView, copy, plainText } from "./answer.js";
import { byId, el, preferences, t } from "./common.js";
import * as store from "./store.js";
import { better, correction, marks } from "./teach.js";

const views = new WeakMap(); // answer -> what draws it again

export const drawAgain = (answer) => views.get(answer)?.();

export function button(name, onclick) { return el("button", { type: "button", class: "plain", text: t(name), onclick }); }

const copying = (text) => el("button", { type: "button", class: "plain", text: t("copy"), onclick: ({ target }) => copy(text(), target) });

// `page` is {state, busy, draw, edit, resend, regenerate, lengthen, save, messages}.
export function drawTurn(turn, index, page) {
  const { conversation, editing } = page.state;
  const all = store.versions(conversation, index), texts = [...new Set(all.map(({ user }) => user))];
  const same = all.filter(({ user }) => user === turn.user);
  const show = (version) => {
    if (page.busy()) return;
    store.choose(conversation, index, version);
    page.save();
    page.draw();
  };
  const messages = pager("messageVersions", `message-${index}`, texts, turn.user, (text) => show(all.findLast(({ user }) => user === text)));
  const user = editing?.index === index ? editor(page) : [
    el("div", { class: "bubble", text: turn.user }),
    el("div", { class: "actions" }, messages, button("edit", () => page.edit(index)), copying(() => turn.user))];
  const answers = el("div", { class: "answers" }, ...turn.answers.map((answer, column) => drawAnswer(turn, answer, column, index, page)));
  return el("article", { class: "turn" }, el("div", { class: "user" }, el("h2", { class: "unseen", text: t("you") }), ...user), answers,
    pager("answerVersions", `answer-${index}`, same, turn, show));
}

// "‹ 2 / 3 ›": which of `versions` is shown, with the way to those beside it. Nothing where there is one.
function pager(label, name, versions, shown, go) {
  if (versions.length < 2) return null;
  const at = versions.indexOf(shown);
  const step = (title, sign, to) => el("button", { type: "button", class: "plain", id: `${name}-${title}`, text: sign, title: t(title), "aria-label": t(title),
    "aria-disabled": versions[to] === undefined && "true", onclick: () => {
      if (versions[to] === undefined) return;
      go(versions[to]);
      byId(`${name}-${title}`)?.focus();
    } });
  return el("div", { class: "versions", role: "group", "aria-label": t(label) }, step("previous", "‹", at - 1),
    el("span", { text: `${at + 1} / ${versions.length}` }), step("next", "›", at + 1));
}

function editor({ state, draw, resend }) {
  const { editing } = state;
  const area = el("textarea", { class: "editing", "aria-label": t("edit"), rows: String(Math.min(8, editing.text.split("\n").length + 1)),
    oninput: () => { editing.text = area.value; } });
  area.value = editing.text;
  const cancel = () => { state.editing = null; draw(); byId("prompt").focus(); };
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); resend(); }
    if (event.key === "Escape") { event.stopPropagation(); cancel(); }
  });
  return [el("div", { class: "bubble" }, area), el("div", { class: "actions" }, button("resend", resend), button("cancel", cancel))];
}

function counts({ tokens, prompt, speed }) {
  const shown = [t("count", { count: tokens.toLocaleString() }), speed && t("speed", { speed: speed.toLocaleString(undefined, { maximumSignificantDigits: 3 }) })];
  return el("span", { class: "stats", title: t("promptCount", { count: prompt.toLocaleString() }), text: shown.filter(Boolean).join(" · ") });
}

// The passages that the model read before the question.
function showSources(node, passages) {
  node.hidden = false;
  node.append(el("summary", { text: t("sources", { files: [...new Set(passages.map(({ file }) => file))].join(", ") }) }),
    ...passages.map(({ file, text }, i) => el("p", {}, el("b", { text: `[${i + 1}] ${file}` }), el("br"), text)));
}

function drawAnswer(turn, answer, column, index, page) {
  const body = el("div", { class: "body" }), note = el("p", { class: "note", hidden: true });
  const actions = el("div", { class: "actions" });
  const written = el("div", { class: "correction", hidden: true });
  const sources = el("details", { class: "sources", hidden: true });
  const node = el("div", { class: "answer" }, el("h2", { class: "by", text: answer.model }), body, written, sources, note, actions);
  const view = new AnswerView(body);
  const update = () => {
    const final = !page.state.running.has(answer);
    view.show(answer, { probabilities: preferences.probabilities, final, given: answer.continues ? turn.user : undefined });
    node.setAttribute("aria-busy", String(!final));
    if (answer.sources && sources.hidden) showSources(sources, answer.sources);
    const notes = [answer.dropped && t("dropped", { count: answer.dropped }), answer.finish === "length" && !answer.continues && t("length"),
      answer.finish === "stopped" && t("stopped"), answer.error && t("failed", { message: answer.error }),
      final && !answer.finish && !answer.error && t("interrupted")].filter(Boolean);
    note.textContent = notes.join(" ");
    note.hidden = !notes.length;
    note.classList.toggle("error", Boolean(answer.error));
    if (!turn.answers.some((each) => page.state.running.has(each)) && !actions.childElementCount) {
      actions.append(copying(() => plainText(answer)), ...marks(answer, column, index, page), ...correction(answer, column, index, page, written), ...better(turn, column, index, page));
      if (answer.continues && answer.parts.length) actions.append(button("lengthen", () => page.lengthen(index, answer)));
      if (index === store.turns(page.state.conversation).length - 1) actions.append(button("regenerate", () => page.regenerate(column)));
      if (answer.stats) actions.append(counts(answer.stats));
    }
  };
  views.set(answer, update);
  update();
  return node;
}
