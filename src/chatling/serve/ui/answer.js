// How an answer looks: Markdown that the server rendered, calculator calls, and on demand every token with its alternatives.

import { byId, call, el, t } from "./common.js";
import { typeset } from "./math.js";

const MOST = 500; // rendered texts that are remembered
const renderings = new Map(); // text -> its HTML
const MARK = "\uE000"; // stands in the text for the calculator call of its number while Markdown is rendered

// The text of an answer with a mark where each calculator call is, and the calls: {expression, result}.
function marked(parts) {
  const calls = [];
  let text = "";
  for (const part of parts) {
    if (part.type === "text") text += part.text.replaceAll(MARK, "");
    else if (part.type === "python") { calls.push({ expression: part.text, result: null }); text += MARK; }
    else if (calls.length && calls.at(-1).result === null) calls.at(-1).result = part.text;
  }
  return { text, calls };
}

export const plainText = (answer) => answer.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

function chip({ expression, result }) {
  return el("span", { class: "tool", role: "img", "aria-label": `${t("calculator")}: ${expression} = ${result ?? t("noResult")}`, title: t("calculator") },
    el("span", { class: "expression", text: expression }), el("span", { class: "equals", text: "=" }),
    el("span", { class: "result", text: result ?? "…" }));
}

// Text with marks into `node`, each mark as its call.
function fill(node, text, calls) {
  text.split(MARK).forEach((piece, i) => {
    if (i) node.append(chip(calls.shift() ?? { expression: "", result: null }));
    node.append(piece);
  });
}

// Shows an answer in `body` and keeps up with it: what has been rendered as Markdown, then the newest text as it is.
export class AnswerView {
  constructor(body) {
    this.body = body;
    this.rendered = { text: "", html: "" };
    this.rendering = false;
  }

  // `given` is the text that a base model continues: what it writes is shown as it is.
  show(answer, { probabilities, final, given }) {
    this.answer = answer;
    this.final = final;
    this.body.classList.toggle("waiting", !answer.parts.length && !final);
    this.body.classList.toggle("continued", given !== undefined);
    if (probabilities && answer.tokens?.length) this.showTokens();
    else if (given !== undefined) this.body.replaceChildren(el("span", { text: plainText(answer) }));
    else {
      const { text } = marked(answer.parts);
      if (renderings.has(text)) this.rendered = { text, html: renderings.get(text) };
      this.draw();
      if (!this.rendering && text !== this.rendered.text) this.render();
    }
    if (given !== undefined) this.body.prepend(el("span", { class: "given", text: given }));
  }

  draw() {
    const { text, calls } = marked(this.answer.parts);
    const known = text.startsWith(this.rendered.text) ? this.rendered : { text: "", html: "" };
    const holder = el("div");
    holder.innerHTML = known.html; // made by markdown-it-py on the server, raw HTML off
    placeCalls(holder, calls);
    typeset(holder, () => { if (!this.body.querySelector(".token")) this.draw(); });
    addCopyButtons(holder);
    if (text.length > known.text.length) {
      const last = known.html ? lastBlock(holder) : holder;
      const shown = last.matches("p") ? known.text.trimEnd() : known.text; // a paragraph has no blank at its end
      const tail = el("span", { class: "tail" });
      fill(tail, text.slice(shown.length), calls);
      last.append(tail);
    }
    this.body.replaceChildren(...holder.childNodes);
  }

  async render() {
    this.rendering = true;
    const { text } = marked(this.answer.parts);
    try {
      const response = await call("/api/render", { body: { text } });
      this.rendered = { text, html: (await response.json()).html };
      if (renderings.size >= MOST) renderings.clear();
      renderings.set(text, this.rendered.html);
      if (!this.body.querySelector(".token")) this.draw();
    } catch {
      return; // the text is there as it is
    } finally {
      this.rendering = false;
    }
    if (!this.final) await new Promise((resolve) => setTimeout(resolve, 250)); // not at every token
    if (!this.rendering && marked(this.answer.parts).text !== this.rendered.text) this.render();
  }

  showTokens() {
    const { parts, tokens } = this.answer;
    const group = el("div", { class: "tokens", role: "group", "aria-label": t("tokens") });
    let placed = 0;
    const calls = (upTo) => {
      const found = marked(parts.slice(placed, upTo)).calls;
      placed = upTo;
      for (const call of found) group.append(chip(call));
    };
    const texts = spelled(tokens);
    tokens.forEach((token, i) => {
      calls(token.after - 1);
      if (texts[i]) group.append(tokenButton(token, texts[i]));
    });
    calls(parts.length);
    group.querySelector(".token")?.setAttribute("tabindex", "0");
    group.addEventListener("keydown", walk);
    this.body.replaceChildren(group);
  }
}

// Tokens are bytes: one that ends inside a character shows with the token that completes it.
function spelled(tokens) {
  const decoder = new TextDecoder();
  return tokens.map((token, i) => decoder.decode(new Uint8Array(token.bytes), { stream: i < tokens.length - 1 }));
}

function tokenButton(token, text) {
  const share = Math.exp(token.logprob);
  // A span, since the text inside a real button does not wrap with the text around it.
  const button = el("span", {
    role: "button", class: "token", tabindex: "-1", text, "aria-label": t("token", { text: visible(text), percent: percent(share) }),
    "aria-describedby": "alternatives", onmouseenter: () => showAlternatives(button, token), onfocus: () => showAlternatives(button, token),
    onmouseleave: hideAlternatives, onblur: hideAlternatives, onclick: () => showAlternatives(button, token),
  });
  button.style.setProperty("--doubt", (1 - share).toFixed(3));
  return button;
}

const percent = (share) => (share * 100).toFixed(share > 0.0995 ? 0 : share > 0.00995 ? 1 : 2);
const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");

function showAlternatives(button, token) {
  const box = byId("alternatives");
  const rows = token.top_logprobs.map((other) => [other.token, Math.exp(other.logprob), other.token === token.token]);
  if (!rows.some(([, , chosen]) => chosen)) rows.push([token.token, Math.exp(token.logprob), true]);
  const rest = Math.max(0, 1 - rows.reduce((sum, [, share]) => sum + share, 0));
  box.replaceChildren(...rows.map(([text, share, chosen]) => alternative(visible(text), share, chosen ? "chosen" : "")),
    alternative(t("other"), rest, "rest"));
  box.hidden = false;
  const at = button.getBoundingClientRect(), size = box.getBoundingClientRect();
  const below = at.bottom + 6 + size.height < innerHeight;
  box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
  box.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - 6 - size.height)}px`;
}

function alternative(text, share, kind) {
  const bar = el("span", { class: "bar" });
  bar.style.setProperty("--share", share.toFixed(4));
  return el("div", { class: `alternative ${kind}` }, el("code", { text }), bar, el("span", { class: "percent", text: `${percent(share)} %` }));
}

export function hideAlternatives() { byId("alternatives").hidden = true; }

function walk(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const buttons = [...event.currentTarget.querySelectorAll(".token")];
  const next = buttons[buttons.indexOf(document.activeElement) + steps[event.key]];
  if (!next) return;
  for (const button of buttons) button.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function placeCalls(holder, calls) {
  const walker = document.createTreeWalker(holder, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) if (walker.currentNode.data.includes(MARK)) found.push(walker.currentNode);
  for (const node of found) {
    const piece = document.createDocumentFragment();
    fill(piece, node.data, calls);
    node.replaceWith(piece);
  }
}

function lastBlock(holder) {
  const last = holder.lastElementChild;
  return last?.matches("p") ? last : holder;
}

function addCopyButtons(holder) {
  for (const block of holder.querySelectorAll("pre")) {
    block.tabIndex = 0; // it scrolls, so the keyboard must reach it
    const button = el("button", { type: "button", class: "copy-code plain", text: t("copy"), onclick: () => copy(block.querySelector("code").textContent, button) });
    block.append(button);
  }
  for (const table of holder.querySelectorAll("table")) {
    const frame = el("div", { class: "wide-table", tabindex: "0" });
    table.replaceWith(frame);
    frame.append(table);
  }
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // without https or permission
    const area = el("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = t("copied");
  setTimeout(() => { button.textContent = t("copy"); }, 1500);
}
