"""One file that unmodified llama.cpp and Ollama run: the classic model as an Apertus model.

The two are the same function but for the last softcap. Apertus norms with weights (here ones),
embeds without a norm (here the rows are normed beforehand), turns heads the other way round (here
half of each head's rows are negated), and its activation xIELU is ReLU squared for alpha_p = ln(e -
1), alpha_n = -100, beta = 0.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chatling.export import verify
from chatling.export.hf import EXTRA, TOOL_TOKENS, require_classic
from chatling.export.source import Source
from chatling.files import write_atomic
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT, norm
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from chatling.tokenizer.hf_format import byte_alphabet, chat_template, printable, recover_merges

FILE = "model.gguf"
EXACT = 1e-3  # of capped fp32 logits: the norm of the embedding is rounded once more
XIELU = {"alpha_p": math.log(math.e - 1), "alpha_n": -100.0, "beta": 0.0, "eps": -1e-6}
# llama.cpp's names of the ways to split text: with digits one by one, and in threes
SPLITS = {1: "qwen2", 2: "smaug-bpe", 3: "smaug-bpe"}
# the distribution without the softcap is sharper; nearest to temperature 1 with it
TEMPERATURE = 1.15
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # llama.cpp's types of tokens
TEMPLATE = (
    '<|bos|>{{- $system := "" }}{{- range .Messages }}{{- if eq .Role "system" }}'
    '{{- $system = printf "%s\\n\\n" .Content }}{{- else if eq .Role "user" }}'
    '<|user_start|>{{ $system }}{{ .Content }}<|user_end|>{{- $system = "" }}{{- else }}'
    "<|assistant_start|>{{ .Content }}<|assistant_end|>{{- end }}{{- end }}<|assistant_start|>"
)  # what chat_template.jinja renders, in Go's language, for Ollama


def write(source: Source, folder: Path, dtype: str) -> None:
    """`model.gguf`, and a `Modelfile` for Ollama. Raises RecipeError for a modern model,
    MachineError without the package gguf.
    """
    require_classic(source.model.config, "llama.cpp")
    verify.needs("gguf", "Writing GGUF files")
    import gguf

    config = source.model.config
    writer = gguf.GGUFWriter(str(folder / FILE), "apertus")
    writer.add_name(f"{source.run}-{source.stage}")
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.depth)
    writer.add_feed_forward_length(config.mlp_width)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    for name, value in XIELU.items():
        writer.add_array(f"xielu.{name}", [value] * config.depth)
    words = source.tokenizer
    extra = {"tokenizer": words.fingerprint, "digits": words.digits, "softcap": config.softcap}
    writer.add_string(EXTRA, json.dumps(extra))
    _add_tokenizer(writer, source.tokenizer)
    wanted = gguf.GGMLQuantizationType[dtype.upper()]
    for name, tensor in apertus_tensors(source.model):
        _add_tensor(writer, name, tensor.numpy(), wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stops = "".join(f"PARAMETER stop {token}\n" for token in ("<|assistant_end|>", "<|bos|>"))
    write_atomic(
        folder / "Modelfile",
        f'FROM ./{FILE}\nTEMPLATE """{TEMPLATE}"""\nPARAMETER temperature {TEMPERATURE}\n{stops}',
    )


def _add_tokenizer(writer: Any, tokenizer: Tokenizer) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(SPLITS[tokenizer.digits])
    writer.add_token_list([*map(printable, tokenizer.pieces), *SPECIAL_TOKENS])
    special = [USER_DEFINED if text in TOOL_TOKENS else CONTROL for text in SPECIAL_TOKENS]
    writer.add_token_types([NORMAL] * len(tokenizer.pieces) + special)
    merges = recover_merges(tokenizer.pieces)
    writer.add_token_merges([f"{printable(left)} {printable(right)}" for left, right in merges])
    writer.add_bos_token_id(tokenizer.bos)
    for add in (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_pad_token_id):
        add(tokenizer.assistant_end)
    writer.add_eom_token_id(tokenizer.assistant_end)
    writer.add_add_bos_token(False)  # the template writes it
    writer.add_chat_template(chat_template())


def _add_tensor(writer: Any, name: str, values: np.ndarray, wanted: Any) -> None:
    """Vectors stay fp32; matrices whose rows do not fill whole blocks of the type become fp16."""
    import gguf

    values = values.astype(np.float32)
    if values.ndim == 1 or wanted == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
        return
    whole = values.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
    kind = wanted if whole else gguf.GGMLQuantizationType.F16
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)


def apertus_tensors(model: GPT) -> Iterator[tuple[str, Tensor]]:
    """The model's tensors under llama.cpp's names, as an Apertus model has them."""
    c, weights = model.config, model.state_dict()

    def turned(matrix: Tensor) -> Tensor:
        heads = matrix.view(-1, 2, c.head_width // 2, c.width).clone()
        heads[:, 1] = -heads[:, 1]
        return heads.view(-1, c.width)

    yield "token_embd.weight", norm(weights["embed_tokens.weight"], c.norm_eps)
    yield "output.weight", weights["lm_head.weight"]
    yield "output_norm.weight", torch.ones(c.width)
    for layer in range(c.depth):
        attention, mlp = f"layers.{layer}.self_attn", f"layers.{layer}.mlp"
        yield from (
            (f"blk.{layer}.{name}", tensor)
            for name, tensor in (
                ("attn_norm.weight", torch.ones(c.width)),
                ("ffn_norm.weight", torch.ones(c.width)),
                ("attn_q_norm.weight", torch.ones(c.head_width)),
                ("attn_k_norm.weight", torch.ones(c.head_width)),
                ("attn_q.weight", turned(weights[f"{attention}.q_proj.weight"])),
                ("attn_k.weight", turned(weights[f"{attention}.k_proj.weight"])),
                ("attn_v.weight", weights[f"{attention}.v_proj.weight"]),
                ("attn_output.weight", weights[f"{attention}.o_proj.weight"]),
                ("ffn_up.weight", weights[f"{mlp}.fc1.weight"]),
                ("ffn_down.weight", weights[f"{mlp}.fc2.weight"]),
            )
        )


class Apertus:
    """What llama.cpp computes of a GGUF file of this architecture, in plain PyTorch: reads the
    file, maps ids (B, T) to uncapped logits (B, T, V).
    """

    def __init__(self, path: Path):
        import gguf

        reader = gguf.GGUFReader(str(path))
        self.fields = {name: field.contents() for name, field in reader.fields.items()}
        self.weights = {
            tensor.name: torch.from_numpy(
                gguf.dequantize(tensor.data, tensor.tensor_type)
                .astype(np.float32)
                .reshape(*(int(size) for size in tensor.shape[::-1]))
            )
            for tensor in reader.tensors
        }

    def get(self, name: str) -> Any:
        return self.fields[f"apertus.{name}"]

    def _norm(self, x: Tensor, weight: str) -> Tensor:
        eps = self.get("attention.layer_norm_rms_epsilon")
        return F.rms_norm(x, (x.shape[-1],), self.weights[weight], eps=eps)

    def _rotate(self, x: Tensor) -> Tensor:
        width, base = self.get("rope.dimension_count"), self.get("rope.freq_base")
        frequencies = base ** (-torch.arange(0, width, 2).float() / width)
        angles = torch.outer(torch.arange(x.shape[-2]).float(), frequencies)
        cos, sin = angles.cos(), angles.sin()
        left, right = x.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)

    def _xielu(self, x: Tensor, layer: int) -> Tensor:
        alpha_p, alpha_n, beta, eps = (
            torch.tensor(self.fields[f"xielu.{name}"][layer]) for name in XIELU
        )
        positive = F.softplus(alpha_p) * x * x + beta * x
        negative = (torch.expm1(x.minimum(eps)) - x) * (beta + F.softplus(alpha_n)) + beta * x
        return torch.where(x > 0, positive, negative)

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        x = self.weights["token_embd.weight"][ids]
        heads = (*ids.shape, -1, self.get("attention.key_length"))
        for layer in range(self.get("block_count")):
            part = f"blk.{layer}"
            h = self._norm(x, f"{part}.attn_norm.weight")
            q, k, v = (
                F.linear(h, self.weights[f"{part}.attn_{name}.weight"]).view(heads).transpose(1, 2)
                for name in "qkv"
            )
            q, k = (
                self._rotate(self._norm(t, f"{part}.attn_{name}_norm.weight"))
                for t, name in ((q, "q"), (k, "k"))
            )
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            y = y.transpose(1, 2).flatten(2)
            x = x + F.linear(y, self.weights[f"{part}.attn_output.weight"])
            h = F.linear(
                self._norm(x, f"{part}.ffn_norm.weight"), self.weights[f"{part}.ffn_up.weight"]
            )
            x = x + F.linear(self._xielu(h, layer), self.weights[f"{part}.ffn_down.weight"])
        return F.linear(self._norm(x, "output_norm.weight"), self.weights["output.weight"])

    def config(self, softcap: float) -> ModelConfig:
        """The classic model that the file's fields describe."""
        return ModelConfig(
            depth=self.get("block_count"),
            width=self.get("embedding_length"),
            heads=self.get("attention.head_count"),
            kv_heads=self.get("attention.head_count_kv"),
            vocab_size=self.get("vocab_size"),
            context=self.get("context_length"),
            mlp_width=self.get("feed_forward_length"),
            rope_theta=self.get("rope.freq_base"),
            norm_eps=np.float64(self.get("attention.layer_norm_rms_epsilon")).item(),
            softcap=softcap,
        )


def read_tokenizer(fields: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a GGUF file that this module wrote."""
    back = {character: byte for byte, character in enumerate(byte_alphabet())}
    texts = fields["tokenizer.ggml.tokens"][: -len(SPECIAL_TOKENS)]
    pieces = [bytes(back[letter] for letter in text) for text in texts]
    return Tokenizer(pieces, json.loads(fields[EXTRA])["digits"])


def check(source: Source, folder: Path, dtype: str) -> list[str]:
    """Read the file back and compute what llama.cpp computes. Raises DataError for what differs."""
    model, tokenizer = source.model, source.tokenizer
    config, apertus = model.config, Apertus(folder / FILE)
    found = apertus.config(config.softcap)
    for name, value in config.to_dict().items():
        theirs = found.to_dict()[name]
        if isinstance(value, float) and math.isclose(value, theirs, rel_tol=1e-7):
            continue  # the file holds fp32
        if name != "modern_init":  # says how training began, not what is computed
            verify.same(name, value, theirs)
    names = {name for name, _ in apertus_tensors(model)}
    verify.same("tensors", [], sorted(names ^ set(apertus.weights)))
    written = read_tokenizer(apertus.fields)
    verify.same("tokenizer", tokenizer.fingerprint, written.fingerprint)
    verify.same("splitting", SPLITS[tokenizer.digits], apertus.fields["tokenizer.ggml.pre"])
    merges = [tuple(merge.split(" ")) for merge in apertus.fields["tokenizer.ggml.merges"]]
    ours = [tuple(map(printable, pair)) for pair in recover_merges(tokenizer.pieces)]
    verify.same("merges", ours, merges)
    for name, value in (
        ("bos", tokenizer.bos),
        ("eos", tokenizer.assistant_end),
        ("eot", tokenizer.assistant_end),
    ):
        verify.same(f"{name} token", value, apertus.fields[f"tokenizer.ggml.{name}_token_id"])
    verify.same("chat template", chat_template(), apertus.fields["tokenizer.chat_template"])
    cap = config.softcap

    def capped(ids: Tensor) -> Tensor:
        return cap * torch.tanh(apertus(ids) / cap)

    lines = [verify.compare_logits(model, capped, dtype, limit=EXACT)]
    if tokenizer.digits == 2:
        share = split_otherwise(tokenizer)
        lines.append(
            f"llama.cpp cannot split digits by twos: {share:.0%} of the numbers up to 99,999 become"
            " other tokens there (choose tokenizer.digits 1 or 3 for it)"
        )
    return lines


def split_otherwise(tokenizer: Tokenizer) -> float:
    """The share of numbers below 100,000 that other tokens stand for when digits go by threes."""
    threes = Tokenizer(tokenizer.pieces, 3)
    numbers = [f" {number}" for number in range(0, 100_000, 37)]
    differ = sum(tokenizer.encode(text) != threes.encode(text) for text in numbers)
    return differ / len(numbers)
