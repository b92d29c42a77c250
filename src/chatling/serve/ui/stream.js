// One answer from the server, event by event.

import { call, ServerError, t } from "./common.js";

// Streams an answer to `request`, a body for `path` (/v1/chat/completions or /v1/completions), into `answer` = {parts, tokens, finish,
// dropped, sources, stats}, calling `changed` after every change. Raises ServerError, or AbortError when `signal` aborts.
export async function stream(path, request, answer, changed, signal) {
  const response = await call(path, { body: { ...request, stream: true, stream_options: { include_usage: true } }, signal });
  let ended = false, first = 0, last = 0, begun = 0, written = 0; // milliseconds; characters of the first event, and in all
  for await (const data of events(response)) {
    if (data === "[DONE]") { ended = true; continue; }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(500, chunk.error.message);
    answer.dropped ??= chunk.dropped_messages;
    answer.sources ??= chunk.sources;
    if (chunk.usage) {
      const { completion_tokens: tokens, prompt_tokens: prompt } = chunk.usage;
      answer.stats = { tokens, prompt, speed: last > first ? (tokens * (1 - begun / written)) / ((last - first) / 1000) : null };
    }
    const choice = chunk.choices[0];
    if (choice) {
      const { parts = [], content = choice.text } = choice.delta ?? {};
      for (const part of parts) answer.parts.push(part);
      if (content) say(answer, content);
      for (const token of listed(choice.logprobs)) answer.tokens?.push({ ...token, after: answer.parts.length });
      if (choice.finish_reason) answer.finish = choice.finish_reason;
      const size = (content ?? "").length + parts.reduce((sum, part) => sum + part.text.length, 0);
      if (size) {
        last = performance.now();
        written += size;
        if (!first) [first, begun] = [last, written];
      }
    }
    changed();
  }
  if (!ended) throw new ServerError(0, t("lost"));
}

// Log-probabilities of both APIs as those of chat: {token, logprob, bytes, top_logprobs}.
function listed(logprobs) {
  if (!logprobs?.tokens) return logprobs?.content ?? [];
  return logprobs.tokens.map((token, i) => ({
    token, logprob: logprobs.token_logprobs[i] ?? 0, bytes: bytesOf(token),
    top_logprobs: Object.entries(logprobs.top_logprobs[i] ?? {}).map(([other, logprob]) => ({ token: other, logprob })).sort((a, b) => b.logprob - a.logprob),
  }));
}

// Half a character is written bytes:\xe4.
function bytesOf(token) {
  if (!/^bytes:(\\x[0-9a-f]{2})+$/.test(token)) return [...new TextEncoder().encode(token)];
  return token.slice(6).match(/[0-9a-f]{2}/g).map((byte) => parseInt(byte, 16));
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
