// The languages that the pages speak, each a table of the same names.

import de from "./words/de.js";
import en from "./words/en.js";
import zh from "./words/zh.js";

export const words = { en, zh, de };
