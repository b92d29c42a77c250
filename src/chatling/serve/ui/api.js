// The API's page: a button in each example that copies it, and the languages and themes of the other pages.

import { byId, el, t, wireAppearance } from "./common.js";

const buttons = [...document.querySelectorAll("pre")].map((block) => {
  const button = el("button", { type: "button", class: "copy-code plain" });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    byId("notice").textContent = button.textContent = t("copied");
  });
  block.append(button);
  return button;
});
const draw = () => buttons.forEach((button) => { button.textContent = t("copy"); });

wireAppearance(draw);
draw();
