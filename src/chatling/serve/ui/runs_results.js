// What a run says of its model: samples of each stage side by side, and evaluations.

import { figure } from "./charts.js";
import { el, t } from "./common.js";

const FACTS = ["seed", "questions", "step", "shots", "limit", "context", "samples", "temperature"]; // how it was done, not what came of it
const KINDS = { chat: "evalChat", core: "evalCore", bpb: "evalBpb", harness: "evalHarness" };
const NAMES = { core: "CORE", chatcore: "ChatCORE" };
const MARKS = { true: "✓ ", false: "✗ " }; // whether an answer is right, where that can be told
const worded = (names, name) => (Object.hasOwn(names, name) ? t(names[name]) : name);

// One article a topic, or a prompt where no topic is known: what each stage said stands side by side, in their order.
export function samples(found) {
  const topics = new Map();
  for (const [stage, { step, samples: all }] of Object.entries(found)) {
    for (const { topic, prompt, text, right } of Array.isArray(all) ? all : []) {
      topics.set(topic ?? prompt, [...(topics.get(topic ?? prompt) ?? []), { stage, step, prompt, text, right }]);
    }
  }
  return [...topics].map(([topic, said]) => {
    const alike = said.every(({ prompt }) => prompt === said[0].prompt);
    return el("article", { class: "sample" }, el("h3", { text: alike ? said[0].prompt : topic }),
      el("dl", {}, ...said.map(({ stage, step, prompt, text, right }) => el("div", {}, el("dt", { text: `${stage} · ${t("samplesAt", { step: step.toLocaleString("en") })}` }),
        el("dd", {}, ...(alike ? [] : [el("span", { class: "prompt", text: prompt })]), (MARKS[right] ?? "") + (text.trim() || t("nothing")))))));
  });
}

export function evaluations(found) {
  return found.map(({ file, values }) => ({ file, shown: rows(values) })).filter(({ shown }) => shown.length).map(({ file, shown }) => {
    const [stage, kind] = file.split(/-(.*)/s);
    return el("div", { class: "eval" }, el("h3", { text: kind ? `${stage} · ${worded(KINDS, kind)}` : file }), scores(shown));
  });
}

// What can be shown of an evaluation: rows {name, share?, interval?, text}. The results are a list of tasks, or figures and tasks by name.
function rows(values) {
  const found = Object.entries(values ?? {}).filter(([name, value]) => typeof value === "number" && !FACTS.includes(name))
    .map(([name, value]) => ({ name: worded(NAMES, name), text: figure(value) }));
  if (values?.results && !Array.isArray(values.results)) found.push(...rows(values.results));
  for (const result of Array.isArray(values?.results) ? values.results : []) {
    if (typeof result?.accuracy !== "number") continue;
    const chance = result.baseline ? ` · ${t("chance", { percent: Math.round(result.baseline * 100) })}` : "";
    found.push({ name: String(result.name), share: result.accuracy, interval: result.interval, text: `${(result.accuracy * 100).toFixed(1)} % · ${t("questions", result)}${chance}` });
  }
  for (const [name, task] of Object.entries(values?.tasks ?? {})) {
    if (typeof task?.accuracy === "number") found.push({ name, share: task.accuracy, text: `${(task.accuracy * 100).toFixed(1)} %${typeof task.centered === "number" ? ` (${figure(task.centered)})` : ""}` });
  }
  return found;
}

function scores(found) {
  return el("div", { class: "scores" }, ...found.map(({ name, share, interval, text }) => {
    const bar = el("span", share === undefined ? {} : { class: "score-bar" });
    if (share !== undefined) {
      bar.style.setProperty("--share", Math.max(0, share));
      for (const end of Array.isArray(interval) ? interval : []) {
        const mark = el("i");
        mark.style.setProperty("--share", end);
        bar.append(mark);
      }
    }
    return el("div", {}, el("span", { text: name.replaceAll("_", " ") }), bar, el("span", { class: "figure", text }));
  }));
}
