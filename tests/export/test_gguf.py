"""Stock llama.cpp on what was exported: the same tokens and answers."""

import json
import shutil
import subprocess
import urllib.request
from typing import Any

import numpy as np
import pytest

from chatling.errors import DataError, RecipeError
from chatling.export import gguf, verify
from chatling.export.formats import export
from chatling.tokenizer.chat_template import render_prompt

from .conftest import CONVERSATIONS, answers, prompts

pytest.importorskip("gguf")


class LlamaServer:
    """llama.cpp's own server with a model, in this process."""

    def __init__(self, path):
        llama = pytest.importorskip("xllamacpp")
        options = llama.CommonParams()
        options.model.path = str(path)
        options.n_ctx, options.n_parallel, options.warmup = 128, 1, False
        options.cpuparams.n_threads = 1
        options.cache_type_k = options.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        options.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = llama.Server(options)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.server.listening_address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


@pytest.mark.parametrize("digits", [1, 3])
def test_llama_cpp_splits_the_same_texts_into_the_same_tokens(learned, folder, digits):
    source = learned("classic", digits, steps=0)
    export(source, "gguf", folder, "f32")
    server = LlamaServer(folder / gguf.FILE)
    differ = []
    for text in verify.sample_texts():
        body = {"content": text, "add_special": False, "parse_special": False}
        if server.post("/tokenize", body)["tokens"] != source.tokenizer.encode(text):
            differ.append(text)
    assert differ == []


def test_llama_cpp_gives_our_engines_answers(learned, folder):
    source = learned("classic", 1)
    export(source, "gguf", folder, "f32")
    server, words = LlamaServer(folder / gguf.FILE), source.tokenizer
    same, asked = 0, prompts(source)
    for prompt, ours in zip(asked, answers(source, asked), strict=True):
        # up to the calculator, which llama.cpp has not
        if words.python_end in ours:
            ours = ours[: ours.index(words.python_end) + 1]
        body = {"prompt": prompt, "n_predict": len(ours), "temperature": 0, "top_k": 1}
        got = server.post("/completion", body | {"return_tokens": True, "cache_prompt": False})
        same += [token for token in got["tokens"] if token != words.assistant_end] == ours
    assert same == len(asked)
    greeting = server.post(
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30, "temperature": 0},
    )
    assert greeting["choices"][0]["message"]["content"] == "Good day to you."


@pytest.mark.parametrize("dtype", ["f16", "q8_0", "q4_0"])
def test_rounded_weights_are_measured(learned, folder, dtype):
    found = export(learned("classic", 2, steps=0), "gguf", folder, dtype)
    assert "KL" in found[0]
    assert "by twos" in found[1]


WRONG = {
    "add_layer_norm_rms_eps": 1e-5,
    "add_rope_freq_base": 10_001.0,
    "add_context_length": 128,
    "add_eos_token_id": 1,
    "add_bos_token_id": 1,
    "add_chat_template": "{{ messages }}",
    "add_tokenizer_pre": "gpt-2",
}


@pytest.mark.parametrize("field", WRONG)
def test_each_wrong_field_is_refused(learned, folder, field, monkeypatch):
    import gguf as library

    original = getattr(library.GGUFWriter, field)
    monkeypatch.setattr(library.GGUFWriter, field, lambda self, _: original(self, WRONG[field]))
    folder.mkdir()
    source = learned()
    gguf.write(source, folder, "f32")
    with pytest.raises(DataError):
        gguf.check(source, folder, "f32")


@pytest.mark.parametrize("field", list(gguf.XIELU)[:3])
def test_a_wrong_activation_is_refused(learned, folder, field, monkeypatch):
    monkeypatch.setitem(gguf.XIELU, field, gguf.XIELU[field] + 0.05 if field != "alpha_n" else 1.0)
    folder.mkdir()
    source = learned()
    gguf.write(source, folder, "f32")
    with pytest.raises(DataError, match="logits"):
        gguf.check(source, folder, "f32")


def test_unturned_heads_are_refused(learned, folder, monkeypatch):
    source = learned()
    plain = dict(gguf.apertus_tensors(source.model))
    plain["blk.0.attn_q.weight"] = source.model.state_dict()["layers.0.self_attn.q_proj.weight"]
    monkeypatch.setattr(gguf, "apertus_tensors", lambda model: iter(plain.items()))
    folder.mkdir()
    gguf.write(source, folder, "f32")
    with pytest.raises(DataError, match="logits"):
        gguf.check(source, folder, "f32")


def test_the_modern_preset_is_refused_in_a_sentence(learned, folder):
    with pytest.raises(RecipeError, match="modern"):
        export(learned("modern", steps=0), "gguf", folder)
    assert not folder.exists()


def test_numbers_that_llama_cpp_would_split_otherwise_are_counted(learned):
    words = learned("classic", 2, steps=0).tokenizer
    assert gguf.split_otherwise(words) > 0
    assert np.isclose(gguf.split_otherwise(learned("classic", 3, steps=0).tokenizer), 0)


GO = """package main
import ("encoding/json"; "os"; "text/template")
type M struct{ Role, Content string }
func main() {
  var in struct{ Template string; Messages []M }
  json.NewDecoder(os.Stdin).Decode(&in)
  template.Must(template.New("").Parse(in.Template)).Execute(os.Stdout, in)
}"""


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go, whose templates Ollama uses")
def test_the_template_of_ollama_renders_our_prompts(learned, tmp_path):
    (tmp_path / "main.go").write_text(GO)
    words = learned().tokenizer
    for conversation in (*CONVERSATIONS[-2:], *verify.sample_conversations()[:2]):
        asked = conversation.prompt
        body = {"Template": gguf.TEMPLATE}
        body["Messages"] = [{"Role": m.role, "Content": m.text} for m in asked.messages]
        done = subprocess.run(
            ["go", "run", "main.go"],
            cwd=tmp_path,
            input=json.dumps(body),
            text=True,
            capture_output=True,
            check=True,
        )
        assert done.stdout == words.decode(render_prompt(words, asked))
