// Formulas: TeX, as pymdownx.arithmatex leaves it, becomes MathML.
for (const holder of document.querySelectorAll(".arithmatex")) {
  const text = holder.textContent.trim();
  if (holder.tagName === "DIV") holder.tabIndex = 0; // a wide one scrolls, also by keyboard
  temml.render(text.slice(2, -2), holder, { displayMode: holder.tagName === "DIV" });
}
