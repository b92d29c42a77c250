// The list of conversations: open, rename, delete, export.

import { ask, byId, el, t } from "./common.js";
import { download } from "./download.js";
import { notice } from "./notice.js";
import * as store from "./store.js";

let actions; // what the page does: {open, startNew, removed, changed, current, redraw}

export function wireSidebar(given) {
  actions = given;
  byId("new").addEventListener("click", () => { slide(false); actions.startNew(); });
  byId("open-sidebar").addEventListener("click", () => slide(true));
  byId("close-sidebar").addEventListener("click", () => slide(false));
  byId("veil").addEventListener("click", () => slide(false));
  byId("export-all").addEventListener("click", () => download("conversations.jsonl", lines(store.all())));
  addEventListener("keydown", (event) => { if (event.key === "Escape") slide(false); });
  addEventListener("storage", ({ key }) => {
    if (key !== store.NAME && key !== null) return;
    store.reload();
    actions.changed();
  });
}

export function drawSidebar(current) {
  byId("conversations").replaceChildren(...store.all().map((conversation) => {
    const title = conversation.title || t("untitled");
    const chosen = conversation.id === current.id;
    const open = el("button", { type: "button", class: "title", text: title, "aria-current": chosen && "true", onclick: () => { slide(false); actions.open(conversation); } });
    const tool = (name, sign, onclick) =>
      el("button", { type: "button", class: "icon", title: t(name), "aria-label": `${t(name)}: ${title}`, text: sign, onclick });
    return el("li", { class: chosen ? "chosen" : "" }, open,
      tool("rename", "✎", () => rename(conversation)), tool("export", "⤓", () => download(`${title}.json`, lines([conversation]))),
      tool("delete", "✕", () => remove(conversation)));
  }));
  byId("export-all").disabled = !store.all().length;
}

async function rename(conversation) {
  const title = await ask(t("renameAsk"), t("save"), { value: conversation.title });
  if (!title) return;
  conversation.title = title;
  store.save(conversation);
  actions.redraw();
}

function remove(conversation) {
  store.remove(conversation);
  if (conversation.id === actions.current().id) actions.removed();
  else actions.redraw();
  notice(t("deleted", { title: conversation.title || t("untitled") }), t("undo"), () => {
    store.restore(conversation);
    actions.open(conversation);
  });
}

const lines = (conversations) => conversations.map((each) => `${JSON.stringify(store.exported(each))}
`).join("");

// On a phone the list slides in over the page.
function slide(open) {
  document.body.classList.toggle("sidebar-open", open);
  byId("veil").hidden = !open;
  byId("open-sidebar").setAttribute("aria-expanded", String(open));
  if (open) byId("close-sidebar").focus();
}
