// Formulas: TeX as MathML, by Temml, which is loaded when the first one comes. What it refuses stays TeX.

import { el } from "./common.js";

const MOST = 500; // formulas that are remembered
const OPTIONS = { throwOnError: true, trust: false, maxSize: [20, 200] }; // em and points of a blank or a rule, at most
const made = new Map(); // kind and TeX -> its element
let loading;

// Sets the formulas in `holder`; calls `again` once Temml is there, where it has to be loaded first.
export function typeset(holder, again) {
  const found = [...holder.querySelectorAll(".math")].filter((node) => !node.childElementCount); // not with a calculator call in it
  if (!found.length) return;
  if (!window.temml) load().then(again, () => {}); // without it the TeX is there as it is
  else for (const node of found) node.replaceChildren(formula(node.textContent, node.matches(".display")));
}

function formula(tex, displayMode) {
  const name = `${displayMode} ${tex}`;
  if (!made.has(name)) {
    if (made.size >= MOST) made.clear();
    const holder = el("span");
    try {
      window.temml.render(tex, holder, { displayMode, ...OPTIONS });
      made.set(name, holder.firstElementChild);
    } catch {
      made.set(name, document.createTextNode(tex));
    }
  }
  return made.get(name).cloneNode(true);
}

function load() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(el("script", { src: "/ui/temml/temml.min.js", onload: resolve, onerror: reject }));
  });
  return loading;
}
