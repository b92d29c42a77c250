// Formulas: TeX, as pymdownx.arithmatex leaves it, becomes MathML. What is wide scrolls, also by keyboard.
for (const holder of document.querySelectorAll(".arithmatex")) {
  const text = holder.textContent.trim();
  if (holder.tagName === "DIV") holder.tabIndex = 0;
  temml.render(text.slice(2, -2), holder, { displayMode: holder.tagName === "DIV" });
}
// the theme wraps tables once the page is loaded
addEventListener("load", () => setTimeout(() => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
}));
