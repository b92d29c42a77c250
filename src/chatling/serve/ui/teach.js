// What the person thinks of answers: marks, what should have been said, and which of two is better. The server keeps it in the run as preference pairs.

import { copy, plainText } from "./answer.js";
import { ask, byId, call, el, t } from "./common.js";
import { download } from "./download.js";
import { notice } from "./notice.js";
import * as store from "./store.js";

const path = (run) => `/api/runs/${encodeURIComponent(run)}/feedback`;
const runOf = (answer) => answer.model.slice(0, answer.model.lastIndexOf("/"));
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// "👍 👎" for an answer; the pressed one takes its mark back.
export function marks(answer, column, index, page) {
  if (!store.content(answer).length) return [];
  const thumb = (mark) => el("button", { type: "button", class: `plain thumb ${mark}`, title: t(mark), "aria-label": t(mark), "aria-pressed": String(answer.mark === mark),
    onclick: (event) => {
      const chosen = answer.mark === mark ? null : mark, body = { prompt: page.messages(index, column), answers: [store.content(answer)], mark: chosen };
      judge([runOf(answer)], body, () => {
        answer.mark = chosen;
        page.save();
        for (const each of event.target.closest(".actions").querySelectorAll(".thumb")) each.setAttribute("aria-pressed", String(each.classList.contains(chosen)));
      });
    } });
  return [thumb("good"), thumb("bad")];
}

// "Write a better answer": what is written stands in `shown`. Emptied, it is taken back.
export function correction(answer, column, index, page, shown) {
  if (!store.content(answer).length) return [];
  const close = () => {
    shown.replaceChildren(answer.correction ?? "");
    shown.hidden = !answer.correction;
  };
  const save = (text) => {
    const chosen = text.trim() || null, body = { prompt: page.messages(index, column), answers: [store.content(answer)], correction: chosen };
    return judge([runOf(answer)], body, () => {
      answer.correction = chosen ?? undefined;
      page.save();
      page.draw();
    });
  };
  const open = () => {
    const area = el("textarea", { class: "editing", "aria-label": t("correct"), rows: "3" });
    area.value = answer.correction ?? plainText(answer).trim();
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); save(area.value); }
      if (event.key === "Escape") { event.stopPropagation(); close(); button.focus(); }
    });
    shown.hidden = false;
    shown.replaceChildren(area, el("button", { type: "button", class: "plain", text: t("save"), onclick: () => save(area.value) }),
      el("button", { type: "button", class: "plain", text: t("cancel"), onclick: close }));
    area.focus();
  };
  const button = el("button", { type: "button", class: "plain", text: t("correct"), onclick: open });
  close();
  return [button];
}

// Under two answers to the same messages: which is better. The conversation continues from it.
export function better(turn, column, index, page) {
  const [one, two] = turn.answers.map(store.content);
  const settled = turn.next.length > 0;
  if (turn.answers.length < 2 || !one.length || !two.length || same(one, two) || !same(page.messages(index, 0), page.messages(index, 1))) return [];
  return [el("button", { type: "button", class: "plain better", id: `better-${index}-${column}`, text: t("better"), "aria-pressed": String(turn.better === column),
    disabled: settled, onclick: () => {
      const chosen = turn.better === column ? null : column, body = { prompt: page.messages(index, column), answers: [one, two], better: chosen };
      judge([...new Set(turn.answers.map(runOf))], body, () => {
        turn.better = chosen;
        page.save();
        page.draw();
        byId(`better-${index}-${column}`)?.focus();
      });
    } })];
}

async function judge(runs, body, done) {
  try {
    for (const run of runs) {
      const found = await (await call(path(run), { body })).json();
      drawPairs(run, found);
      if (found.marks === 1) notice(t("kept", { run }));
    }
    done();
  } catch (error) {
    notice(t("failed", { message: error.message }));
  }
}

// How many pairs the run of the chosen model has, as a button that downloads them.
export async function showPairs(run) {
  if (!run) return;
  try {
    drawPairs(run, await (await call(path(run))).json());
  } catch {
    byId("pairs").hidden = true; // where there is no such run, or no server
  }
}

function drawPairs(run, { marks, pairs, path: file }) {
  const button = byId("pairs");
  button.hidden = !marks;
  button.textContent = t("pairs", { count: pairs.toLocaleString(), run });
  button.title = t("pairsHint", { file });
  const improve = byId("improve"), command = `chatling improve ${run}`;
  improve.hidden = !pairs;
  improve.onclick = async () => {
    if (await ask(t("improveAsk", { command }), t("copy"))) {
      copy(command, el("span"));
      notice(t("copiedCommand", { command }));
    }
  };
  button.onclick = async () => {
    try {
      download(`${run}-pairs.jsonl`, await (await call(`${path(run)}/pairs.jsonl`)).text());
    } catch (error) {
      notice(t("failed", { message: error.message }));
    }
  };
}
