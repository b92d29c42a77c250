// A file for the person, made here.

import { el } from "./common.js";

export function download(name, text, type = "application/json") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name.replace(/[^\p{L}\p{N}. _-]/gu, "") }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
