"""`chatling import`: what goes in comes out bit for bit, and what is evil is refused."""

import json
import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from chatling.cli import main
from chatling.config.recipe import Recipe
from chatling.config.stages import OriginConfig
from chatling.export.formats import FORMATS
from chatling.export.hf import is_classic
from chatling.export.source import Source
from chatling.files import read_json
from chatling.hardware.distributed import DistContext
from chatling.importing import origin
from chatling.importing.origin import settle_together
from chatling.importing.source import fingerprint, read_source
from chatling.run_dir import RunFolder, home
from chatling.train.checkpoint import load_model
from hub_uploads import Repository

from .nanochat_files import write_nanochat, write_pickle


def imported(name: str = "mine", stage: str = "sft") -> Source:
    return Source.of(RunFolder.open(name), stage)


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_a_checkpoint_of_nanochats_is_read_bit_for_bit(trained, tmp_path, prefix, capsys):
    folder = write_nanochat(trained, tmp_path / "nanochat", prefix=prefix)
    assert main(["import", str(folder), "--run", "mine"]) == 0
    assert "chatling chat mine" in capsys.readouterr().out
    found = imported()
    assert found.model.config == trained.model.config
    assert found.tokenizer.fingerprint == trained.tokenizer.fingerprint
    for name, tensor in trained.model.state_dict().items():
        wanted = tensor.bfloat16().float() if prefix and "embed_tokens" in name else tensor
        assert torch.equal(found.model.state_dict()[name], wanted)
    assert main(["chat", "mine", "--prompt", "Who?", "--max-tokens", "3"]) == 0


@pytest.mark.parametrize("form", ["hf", "mlx"])
def test_an_export_comes_back_with_the_same_fingerprint(trained, tmp_path, form):
    if form == "mlx" and not is_classic(trained.model.config):
        pytest.skip("MLX has no class for it")
    folder = tmp_path / "export"
    folder.mkdir()
    FORMATS[form].write(trained, folder, "f32")
    assert main(["import", str(folder), "--run", "mine"]) == 0
    assert fingerprint(imported()) == fingerprint(trained)
    written = read_json(home() / "runs/mine/sft/model/config.json")
    assert written["fingerprint"] == fingerprint(trained)


def test_a_run_is_not_overwritten(trained, tmp_path, capsys):
    folder = write_nanochat(trained, tmp_path / "nanochat")
    assert main(["import", str(folder), "--run", "mine", "--stage", "mid"]) == 0
    assert imported(stage="mid")
    assert main(["import", str(folder), "--run", "mine"]) == 1
    assert "already" in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def replaced(folder: Path, value: object) -> None:
    torch.save(value, folder / "model_000700.pt")


def packed(folder: Path) -> None:
    path = folder / "model_000700.pt"
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(name, data)


def linked(folder: Path) -> None:
    (folder / "model_000700.pt").unlink()
    (folder / "model_000700.pt").symlink_to("/etc/passwd")


EVILS = {
    "code in the tokenizer": lambda f: (f / "tokenizer.pkl").write_bytes(pickle.dumps(Evil())),
    "memory in the tokenizer": lambda f: (f / "tokenizer.pkl").write_bytes(
        b"\x80\x05\x96" + (1 << 45).to_bytes(8, "little") + b"x."
    ),
    "a text as the tokenizer": lambda f: (f / "tokenizer.pkl").write_bytes(pickle.dumps("x")),
    "code in the weights": lambda f: replaced(f, {"lm_head.weight": Evil()}),
    "numbers as the weights": lambda f: replaced(f, {"lm_head.weight": 3}),
    "a table from one number": lambda f: replaced(
        f, OrderedDict({"lm_head.weight": torch.zeros(1).expand(1 << 20, 1 << 20)})
    ),
    "few weights": lambda f: replaced(f, {"lm_head.weight": torch.zeros(3, 3)}),
    "a packed archive": packed,
    "a link": linked,
    "half a file": lambda f: os.truncate(f / "model_000700.pt", 3000),
    "no file": lambda f: (f / "model_000700.pt").write_bytes(b""),
    "no shape": lambda f: (f / "meta_000700.json").write_text("[]"),
    "a huge shape": lambda f: (f / "meta_000700.json").write_text(
        '{"model_config": {"n_layer": 9999, "n_embd": 8388608, "n_head": 8, "n_kv_head": 8,'
        ' "vocab_size": 300, "sequence_len": 128}}'
    ),
}


@pytest.mark.parametrize("evil", EVILS)
def test_what_is_evil_or_broken_is_refused_in_a_sentence(
    evil, words, tmp_path, capsys, monkeypatch
):
    from chatling.model.config import ModelConfig

    from .nanochat_files import random_model

    monkeypatch.chdir(tmp_path)
    config = ModelConfig(2, 32, 2, 2, words.vocab_size, 64, 128)
    source = Source(random_model(config), words, "d2", "sft")
    folder = write_nanochat(source, tmp_path / "nanochat")
    write_pickle(words, folder / "tokenizer.pkl")
    EVILS[evil](folder)
    assert main(["import", str(folder), "--run", "mine"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("chatling: ")
    assert "Traceback" not in said
    assert said.count("\n") <= 2
    assert not (tmp_path / "pwned").exists()
    assert not (home() / "runs/mine/state.json").exists()


def test_sft_continues_from_an_imported_model_and_resumes(trained, tmp_path, capsys):
    """One of the models wholly, the other by adapters."""
    table = "" if trained.model.config.layer_scalars else "[sft.adapter]\nrank = 2\n"
    folder = write_nanochat(trained, tmp_path / "nanochat")
    talks = tmp_path / "talks.jsonl"
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "A fox."}]
    turns = [{**turn, "content": f"{turn['content']} {i}"} for i in range(40) for turn in turns]
    rows = [json.dumps({"messages": turns[i : i + 2]}) for i in range(0, 80, 2)]
    talks.write_text("\n".join(rows))
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'[sft]\nbatch_conversations = 8\nmixture = [{{task = "{talks}"}}]\n{table}'
        '[machine]\ndevice = "cpu"\ndtype = "float32"\ncompile = "off"\nthreads = 1\n'
        "[loop]\nsave_every = 1\n"
    )
    words = ["run", str(recipe), "--origin", str(folder), "--run", "on"]
    assert main(words) == 0, capsys.readouterr().err
    run = RunFolder.open("on")
    assert set(run.read_state()["stages"]) == {"origin", "sft", "report"}
    before, after = (load_model(run.model(stage)) for stage in ("origin", "sft"))
    assert before.config == after.config == trained.model.config
    # adapters leave the head, and all that is no matrix of a block
    assert torch.equal(before.lm_head.weight, after.lm_head.weight) == bool(table)
    fc1 = "layers.0.mlp.fc1.weight"
    assert not torch.equal(before.state_dict()[fc1], after.state_dict()[fc1])
    mark = fingerprint(Source.of(run, "sft"))
    # as a kill leaves it: the last step is not saved, the stage's model is not there yet
    state = run.read_state()
    state["stages"]["sft"]["status"] = "running"
    run.write_state(state)
    shutil.rmtree(run.model("sft"))
    *_, saved, last = sorted((run.stage("sft") / "checkpoints").iterdir())
    assert all("lora_" in name for name in load_file(saved / "model.safetensors")) == bool(table)
    shutil.rmtree(last)
    shutil.rmtree(run.stage("sft") / "adapter", ignore_errors=True)
    assert main(["run", "on"]) == 0, capsys.readouterr().err
    assert fingerprint(Source.of(run, "sft")) == mark
    assert main(["run", *words[1:]]) == 0
    assert "sft: done before, skipped" in capsys.readouterr().out
    assert fingerprint(read_source("on", "sft", print)) == mark
    adapter = run.stage("sft") / "adapter"
    assert adapter.exists() == bool(table)
    if table:
        assert main(["import", str(adapter), "--run", "merged"]) == 0
        assert fingerprint(imported("merged")) == mark


@pytest.mark.parametrize("base", ["missing", "itself"])
def test_adapters_without_their_model_are_refused(base, tmp_path, capsys):
    folder = tmp_path / "adapter"
    folder.mkdir()
    name = str(tmp_path / "missing" if base == "missing" else folder)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
    assert main(["import", str(folder)]) == 1
    said = capsys.readouterr().err
    assert name in said
    assert "Traceback" not in said


def test_a_model_of_the_hub_becomes_a_run(trained, tmp_path, mirror, monkeypatch, capsys):
    for kind, name in (("nanochat", "their/d4"), ("export", "my/d4")):
        folder = tmp_path / kind
        if kind == "nanochat":
            folder = write_nanochat(trained, folder)
            write_pickle(trained.tokenizer, folder / "tokenizer.pkl")
        else:
            folder.mkdir()
            FORMATS["hf"].write(replace(trained, stage="rl"), folder, "f32")
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        # neither fetched nor kept: what is no part of a model
        files |= {"notes.txt": b"x", "sub/model.safetensors": b"x"}
        mirror.repositories["model", name] = Repository(private=True, files=files)
    assert main(["pull", "my/d4"]) == 1
    assert "set HF_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", mirror.token)
    # a folder here that has the name of the repository is not what `pull` asks for
    monkeypatch.chdir(tmp_path)
    Path("my/d4").mkdir(parents=True)
    assert main(["pull", "my/d4"]) == 0
    assert main(["import", "their/d4", "--run", "theirs"]) == 0
    capsys.readouterr()
    assert fingerprint(imported("d4", "rl")) == fingerprint(imported("theirs"))
    assert not any("notes" in asked.path or "sub/" in asked.path for asked in mirror.asked)
    assert main(["pull", "my/d4"]) == 1
    assert "already" in capsys.readouterr().err
    for name, said in (("d4", "OWNER/NAME"), ("my/none", "There is no model my/none")):
        assert main(["pull", name, "--run", "new"]) == 1
        assert said in capsys.readouterr().err


def test_a_plan_of_an_origin_is_that_of_its_model(trained, tmp_path, capsys):
    folder, recipe = write_nanochat(trained, tmp_path / "nanochat"), tmp_path / "own.toml"
    recipe.write_text('[sft]\nmixture = [{task = "pocket", count = 64}]\n')
    assert main(["plan", str(recipe), "--origin", str(folder), "--machine", "h100"]) == 0
    said = capsys.readouterr().out
    parameters = sum(tensor.numel() for tensor in trained.model.state_dict().values())
    assert f"{parameters:,}" in said
    assert "sft" in said
    assert "base reads" not in said
    assert not (home() / "runs").exists()
    assert main(["plan", str(recipe), "--origin", str(tmp_path / "none")]) == 1
    assert "no folder and no run" in capsys.readouterr().err


@dataclass(frozen=True)
class Second(DistContext):
    """The second of two processes, which hears from the first."""

    told: object = None

    def broadcast_object(self, value):
        return None if value is None else self.told


def test_one_process_reads_the_origin_for_all(trained, tmp_path, monkeypatch):
    source = write_nanochat(trained, tmp_path / "nanochat")
    recipe, run = Recipe(origin=OriginConfig(str(source))), RunFolder(home() / "runs/new")
    settled = settle_together(recipe, run, print, DistContext())
    assert settled.origin.sha256 == fingerprint(trained)
    monkeypatch.setattr(origin, "read_source", None)  # which the second one does not call
    assert settle_together(recipe, run, print, Second(1, 2, told=settled)) is settled
