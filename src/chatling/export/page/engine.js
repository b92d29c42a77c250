// A chatling model in plain JavaScript: tokenizer, calculator, and a forward pass that keeps keys and
// values. No library, no network.
"use strict";

const bytesOf = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

class Tokenizer {
  constructor(meta) {
    this.pieces = meta.pieces.map(bytesOf);
    this.ranks = new Map(this.pieces.map((piece, rank) => [String.fromCharCode(...piece), rank]));
    this.bos = this.pieces.length;
    const names = ["userStart", "userEnd", "assistantStart", "assistantEnd", "pythonStart", "pythonEnd", "outputStart", "outputEnd"];
    names.forEach((name, i) => { this[name] = this.bos + 1 + i; });
    const space = "\\t-\\r \\u0085\\p{Z}";
    this.split = new RegExp(
      `'(?:[sdmtSDMT\\u017f]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+` +
      `|\\p{N}{1,${meta.digits}}| ?[^${space}\\p{L}\\p{N}]+[\\r\\n]*|[${space}]*[\\r\\n]` +
      `|[${space}]+(?![^${space}])|[${space}]+`, "gu");
    this.utf8 = new TextEncoder();
  }

  encode(text) {
    const ids = [];
    for (const [word] of text.toWellFormed().matchAll(this.split)) {
      const parts = Array.from(this.utf8.encode(word), (byte) => String.fromCharCode(byte));
      for (;;) {
        let best = Infinity, at = -1;
        for (let i = 0; i + 1 < parts.length; i++) {
          const rank = this.ranks.get(parts[i] + parts[i + 1]);
          if (rank < best) { best = rank; at = i; }
        }
        if (at < 0) break;
        parts.splice(at, 2, parts[at] + parts[at + 1]);
      }
      for (const part of parts) ids.push(this.ranks.get(part));
    }
    return ids;
  }

  decode(ids) {
    const bytes = ids.filter((id) => id < this.bos).flatMap((id) => [...this.pieces[id]]);
    return new TextDecoder().decode(new Uint8Array(bytes));
  }

  // turns: {role: "user", text} or {role: "assistant", ids}
  prompt(turns) {
    const ids = [this.bos];
    for (const turn of turns) {
      if (turn.role === "user") ids.push(this.userStart, ...this.encode(turn.text), this.userEnd);
      else ids.push(this.assistantStart, ...turn.ids, this.assistantEnd);
    }
    return [...ids, this.assistantStart];
  }
}

class Model {
  // buffer: the tensors end to end, fp32 or int8 with one fp32 scale a row
  constructor(meta, buffer) {
    this.config = meta.config;
    this.headWidth = this.config.width / this.config.heads;
    this.weights = {};
    for (const [name, { offset, shape, scale }] of Object.entries(meta.tensors)) {
      const [rows, columns = 1] = shape;
      if (scale === undefined) { this.weights[name] = new Float32Array(buffer, offset, rows * columns); continue; }
      const rounded = new Int8Array(buffer, offset, rows * columns), scales = new Float32Array(buffer, scale, rows);
      const values = new Float32Array(rows * columns);
      for (let i = 0; i < values.length; i++) values[i] = rounded[i] * scales[Math.floor(i / columns)];
      this.weights[name] = values;
    }
    const half = this.headWidth / 2;
    this.frequencies = Float32Array.from({ length: half }, (_, i) => this.config.rope_theta ** (-i / half));
    const size = (this.config.context + 1) * this.config.kv_heads * this.headWidth;
    this.keys = Array.from({ length: this.config.depth }, () => new Float32Array(size));
    this.values = Array.from({ length: this.config.depth }, () => new Float32Array(size));
    this.ids = [];  // whose keys and values are kept
  }

  norm(x, start = 0, length = x.length) {
    let sum = 0;
    for (let i = start; i < start + length; i++) sum += x[i] * x[i];
    const scale = 1 / Math.sqrt(sum / length + this.config.norm_eps);
    for (let i = start; i < start + length; i++) x[i] *= scale;
    return x;
  }

  product(name, x) {
    const weight = this.weights[name], n = x.length, out = new Float32Array(weight.length / n);
    for (let row = 0, o = 0; row < out.length; row++, o += n) {
      let a = 0, b = 0, c = 0, d = 0;  // four sums keep four units busy; widths are multiples of four
      for (let i = 0; i < n; i += 4) {
        a += weight[o + i] * x[i]; b += weight[o + i + 1] * x[i + 1];
        c += weight[o + i + 2] * x[i + 2]; d += weight[o + i + 3] * x[i + 3];
      }
      out[row] = a + b + (c + d);
    }
    return out;
  }

  embedding(id) {
    const { width } = this.config;
    return this.norm(this.weights["embed_tokens.weight"].slice(id * width, (id + 1) * width));
  }

  // so many gates that look at the first few channels
  gates(name, x, count) {
    const inputs = x.subarray(0, this.weights[name].length / count);
    return this.product(name, inputs).map((z) => 1 / (1 + Math.exp(-z)));
  }

  // values of a layer, with the token's second embedding where it has one
  valuesOf(id, layer, h) {
    const v = this.product(`layers.${layer}.self_attn.v_proj.weight`, h), more = this.weights[`value_embeds.${layer}.weight`];
    if (more === undefined) return v;
    const gates = this.gates(`layers.${layer}.self_attn.value_gate.weight`, h, this.config.kv_heads);
    return v.map((value, i) => value + 3 * gates[Math.floor(i / this.headWidth)] * more[id * v.length + i]);
  }

  // rotary embedding, then norm, head by head
  rotate(x, position) {
    const width = this.headWidth, half = width / 2;
    for (let start = 0; start < x.length; start += width) {
      for (let i = 0; i < half; i++) {
        const angle = Math.fround(position * this.frequencies[i]), cos = Math.cos(angle), sin = Math.sin(angle);
        const left = x[start + i], right = x[start + i + half];
        x[start + i] = left * cos + right * sin;
        x[start + i + half] = right * cos - left * sin;
      }
      this.norm(x, start, width);
    }
    return x.map((value) => value * this.config.qk_scale);
  }

  attend(q, layer, position) {
    const { heads, kv_heads } = this.config, width = this.headWidth, stride = kv_heads * width;
    const keys = this.keys[layer], values = this.values[layer];
    const y = new Float32Array(q.length), scores = new Float64Array(position + 1);
    const window = this.config.windows[layer] || position + 1, oldest = Math.max(0, position - window + 1);
    for (let head = 0; head < heads; head++) {
      const from = Math.floor(head * kv_heads / heads) * width, at = head * width;
      let top = -Infinity, total = 0;
      for (let t = oldest; t <= position; t++) {
        let dot = 0;
        for (let i = 0; i < width; i++) dot += q[at + i] * keys[t * stride + from + i];
        scores[t] = dot / Math.sqrt(width);
        top = Math.max(top, scores[t]);
      }
      for (let t = oldest; t <= position; t++) total += scores[t] = Math.exp(scores[t] - top);
      for (let t = oldest; t <= position; t++) {
        for (let i = 0, p = scores[t] / total; i < width; i++) y[at + i] += p * values[t * stride + from + i];
      }
    }
    return y;
  }

  // logits after one more token
  step(id) {
    const { width, depth, kv_heads, softcap, middle_layer } = this.config, position = this.ids.length;
    const stride = kv_heads * this.headWidth, smear = this.weights.smear_scale;
    const scales = this.weights.residual_scales, inputs = this.weights.input_scales, backout = this.weights.backout_scale;
    this.ids.push(id);
    let x = this.embedding(id), middle = null;
    const add = (y, factor = 1) => { for (let i = 0; i < width; i++) x[i] += factor * y[i]; };
    if (smear && position) {
      const [gate] = this.gates("smear_gate.weight", x, 1);
      add(this.embedding(this.ids[position - 1]), smear[0] * gate);
    }
    const first = x.slice();
    for (let layer = 0; layer < depth; layer++) {
      const name = (part) => `layers.${layer}.${part}.weight`;
      if (scales) x = x.map((value, i) => scales[layer] * value + inputs[layer] * first[i]);
      const h = this.norm(x.slice());
      const q = this.rotate(this.product(name("self_attn.q_proj"), h), position);
      this.keys[layer].set(this.rotate(this.product(name("self_attn.k_proj"), h), position), position * stride);
      this.values[layer].set(this.valuesOf(id, layer, h), position * stride);
      add(this.product(name("self_attn.o_proj"), this.attend(q, layer, position)));
      const hidden = this.product(name("mlp.fc1"), this.norm(x.slice()));
      add(this.product(name("mlp.fc2"), hidden.map((value) => Math.max(value, 0) ** 2)));
      if (layer === middle_layer) middle = x.slice();
    }
    if (backout) add(middle, -backout[0]);
    return this.product("lm_head.weight", this.norm(x)).map((z) => softcap * Math.tanh(z / softcap));
  }
}

function sample(logits, temperature) {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  if (!temperature) return best;
  const weights = Float64Array.from(logits, (z) => Math.exp((z - logits[best]) / temperature));
  let left = Math.random() * weights.reduce((a, b) => a + b);
  for (let i = 0; i < weights.length; i++) if ((left -= weights[i]) <= 0) return i;
  return best;
}

// The tokens of the answer to `turns`, calculator's results among them, without the one that ends it.
function* answer(model, tokenizer, turns, { temperature = 0, limit = 256 } = {}) {
  const prompt = tokenizer.prompt(turns), context = model.config.context;
  let kept = 0;
  while (kept < prompt.length - 1 && model.ids[kept] === prompt[kept]) kept++;
  model.ids.length = kept;
  let logits, call = null;
  for (const id of prompt.slice(kept)) logits = model.step(id);
  const full = () => model.ids.length > context;
  for (let n = 0; n < limit && !full(); n++) {
    const id = sample(logits, temperature);
    if (id === tokenizer.assistantEnd || id === tokenizer.bos) return;
    yield id;
    if (model.ids.length === context) return;
    logits = model.step(id);
    if (id === tokenizer.pythonStart) call = [];
    else if (id === tokenizer.pythonEnd && call) {
      const result = calculate(tokenizer.decode(call));
      call = null;
      if (result === null) continue;
      for (const given of [tokenizer.outputStart, ...tokenizer.encode(result), tokenizer.outputEnd]) {
        yield given;
        if (model.ids.length === context) return;
        logits = model.step(given);
      }
    } else if (call) call.push(id);
  }
}

// The largest part of a conversation, its last turns, whose prompt leaves half of the context free.
function fit(model, tokenizer, turns) {
  let rest = turns;
  while (rest.length > 1 && tokenizer.prompt(rest).length > model.config.context / 2) rest = rest.slice(2);
  return rest;
}

if (typeof module !== "undefined") module.exports = { Tokenizer, Model, answer, fit, bytesOf };
