// One answer from the server, event by event.

import { call, ServerError, t } from "./common.js";

// Streams an answer to `request` (a body of /v1/chat/completions) into `answer` = {parts, tokens, finish, dropped}, calling `changed`
// after every change. Raises ServerError, or AbortError when `signal` aborts.
export async function stream(request, answer, changed, signal) {
  const response = await call("/v1/chat/completions", { body: { ...request, stream: true, truncation: "auto" }, signal });
  let ended = false;
  for await (const data of events(response)) {
    if (data === "[DONE]") { ended = true; continue; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(500, chunk.error.message);
    answer.dropped ??= chunk.dropped_messages;
    const choice = chunk.choices[0];
    if (!choice) continue;
    for (const part of choice.delta.parts ?? []) answer.parts.push(part);
    if (choice.delta.content) say(answer, choice.delta.content);
    for (const token of choice.logprobs?.content ?? []) answer.tokens.push({ ...token, after: answer.parts.length });
    if (choice.finish_reason) answer.finish = choice.finish_reason;
    changed();
  }
  if (!ended) throw new ServerError(0, t("lost"));
}

function say(answer, text) {
  const last = answer.parts.at(-1);
  if (last?.type === "text") last.text += text;
  else answer.parts.push({ type: "text", text });
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        return { done: true };
      });
      if (done) return;
      held += value;
      const blocks = held.split("\n\n");
      held = blocks.pop();
      for (const block of blocks) if (block.startsWith("data: ")) yield block.slice(6);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
