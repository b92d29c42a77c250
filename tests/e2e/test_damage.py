"""Whatever is damaged in a run's folder: the next command names it, nothing is trained on it, and
nothing ends in a traceback.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from chatling.config.recipe import Recipe, load_recipe
from chatling.data.config import POCKET
from chatling.errors import ChatlingError, DataError
from chatling.hardware.detect import Machine
from chatling.hardware.distributed import DistContext
from chatling.pipeline import runner, stages
from chatling.report.collect import collect
from chatling.run_dir import RunFolder, write_manifest
from chatling.terminal.progress import Progress
from chatling.tokenizer.bpe import Tokenizer
from chatling.toy.corpus import write_corpus
from chatling.toy.dataset import BUILT_IN
from chatling.train import setup
from chatling.train.callbacks import LiveEvals
from chatling.train.checkpoint import load_model

from .damage import CORRUPTIONS, STAGES, TRAINED, flip, looked_at, products

TINY = [
    *[
        "--model.depth",
        "1",
        "--model.width",
        "16",
        "--model.head-width",
        "8",
        "--model.context",
        "64",
        "--tokenizer.vocab_size",
        "400",
    ],
    *[
        "--tokenizer.characters",
        "100000",
        "--base.steps",
        "3",
        "--base.batch-tokens",
        "256",
        "--base.validation-tokens",
        "256",
    ],
    *[
        "--sft.batch-conversations",
        "8",
        "--sft.mixture.0.count",
        "40",
        "--sft.validation-conversations",
        "4",
    ],
    *[
        "--dpo.pairs",
        "40",
        "--dpo.validation-pairs",
        "8",
        "--dpo.evaluate-every",
        "0",
        "--loop.save-every",
        "2",
    ],
    *[
        "--machine.compile",
        "off",
        "--machine.kernel",
        "plain",
        "--machine.threads",
        "1",
        "--machine.dtype",
        "float32",
    ],
]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return replace(load_recipe("pocket", TINY, prog="test"), mid=None, rl=None, eval=None)


def go_on(recipe: Recipe, run: Path) -> str:
    """`chatling run`; returns what it said."""
    said = io.StringIO()
    machine = Machine("cpu", "test", 1, 1 << 33, True, False, 0.01, 0.01)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        # whatever takes long and is not looked at here
        small = replace(
            BUILT_IN[POCKET], write_corpus=lambda folder, seed: write_corpus(folder, seed, 60_000)
        )
        patch.setitem(BUILT_IN, POCKET, small)
        patch.setattr(setup, "detect", lambda device: machine)
        patch.setattr(LiveEvals, "on_eval", lambda self, step: {})
        runner.run(
            recipe,
            RunFolder(run),
            STAGES,
            Progress(console=Console(file=said, width=1000)),
            DistContext(),
        )
    return said.getvalue()


@pytest.fixture(scope="module")
def finished(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHATLING_HOME", str(home))
        go_on(recipe, home / "runs/tiny")
    return home / "runs/tiny"


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))
    return Path(shutil.copytree(finished, tmp_path / "runs/tiny"))


def weights(run: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(run / stage / "model/model.safetensors")


def test_a_hundred_corruptions_are_named_and_none_is_read(
    finished: Path, run: Path, recipe: Recipe
) -> None:
    dice = random.Random(13)
    nothing, right = looked_at(run, recipe)
    assert nothing == []
    files = [file.relative_to(finished) for file in products(finished)]
    assert len(files) > 50
    for number in range(100):
        name, corrupt = files[dice.randrange(len(files))], CORRUPTIONS[number % len(CORRUPTIONS)]
        if not (run / name).stat().st_size:
            continue
        hit = [run / name, corrupt(run / name, dice) or run / name]
        told, got = looked_at(run, recipe)
        where = f"{number}: {corrupt.__name__} {name}"
        assert any(
            str(path) in text or str(path.parent) in text for text in told for path in hit
        ), f"{where}: {told}"
        assert all(got[key] in (right[key], b"") for key in got), where
        shutil.rmtree(run)
        shutil.copytree(finished, run)


READ = {
    "base": [
        "tokenizer/ranks.tiktoken",
        "data/base-train/shard_00000/tokens.bin",
        "data/base-validation/corpus.json",
        "data/sft-train/shard_00000/offsets.bin",
        "data/sft-validation/shard_00000/mask.bin",
    ],
    "dpo": [
        "base/model/model.safetensors",
        "sft/model/config.json",
        "data/dpo-train/shard_00000/meta.json",
        "data/dpo-train-reference.safetensors",
    ],
}


@pytest.mark.parametrize("stage", READ)
def test_flipped_bits_are_mended_with_a_sentence_each_and_the_weights_are_as_before(
    finished: Path, run: Path, recipe: Recipe, stage: str
) -> None:
    state = RunFolder(run).read_state()
    for name in TRAINED[TRAINED.index(stage) :]:  # as a kill leaves a run
        state["stages"][name]["status"] = "running"
        shutil.rmtree(run / name / "model", ignore_errors=True)
        for checkpoint in (run / name / "checkpoints").glob("step_00000[1-9]"):
            shutil.rmtree(checkpoint)
    RunFolder(run).write_state(state)
    for name in READ[stage]:
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 4
        (run / name).write_bytes(content)
    said = go_on(recipe, run)
    for name in READ[stage]:
        assert str(run / name) in said or name.endswith("corpus.json"), said
    for each in TRAINED:
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                weights(finished, each).values(), weights(run, each).values(), strict=True
            )
        )


def test_a_damaged_model_without_a_checkpoint_is_not_trained_again_unasked(
    run: Path, recipe: Recipe
) -> None:
    shutil.rmtree(run / "base/checkpoints")
    flip(run / "base/model/model.safetensors", random.Random(0))
    with pytest.raises(
        ChatlingError,
        match=(
            r"base/model/model\.safetensors does not match its checksum, and there is no whole"
            r" checkpoint"
        ),
    ):
        go_on(recipe, run)


def foreign_configs() -> Iterator[dict[str, object]]:
    for key in ("depth", "width", "heads", "vocab_size", "context", "mlp_width"):
        yield from (
            {key: value} for value in (10**9, 10**18, 10**400, -1, 0, 1.5, "1", True, None, [1])
        )
    yield from ({"norm_eps": value} for value in ("x", float("nan"), float("inf"), -1.0, True))
    yield from ({"windows": value} for value in ([1] * 7, ["x"], [-1], 3, {"a": 1}))
    yield from (
        {"smear": 1},
        {"modern_init": "yes"},
        {"unknown": 1},
        {"depth": 2},
        {"width": 32, "mlp_width": 128},
    )


@pytest.mark.parametrize("change", list(foreign_configs()), ids=lambda change: repr(change)[:40])
def test_a_foreign_config_is_refused_before_anything_is_allocated(
    run: Path, change: dict[str, object]
) -> None:
    folder = run / "base/model"
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    write_manifest(folder)
    with pytest.raises(DataError, match="model"):
        load_model(folder)


@pytest.mark.parametrize(
    "content",
    ["null", "[]", '{"model": 3}', "{}", '{"model": {}}', "[" * 100_000, '{"a":' * 100_000],
)
def test_a_foreign_config_of_another_shape(run: Path, content: str) -> None:
    (run / "base/model/config.json").write_text(content)
    write_manifest(run / "base/model")
    with pytest.raises(DataError):
        load_model(run / "base/model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert collect(RunFolder(run), stages.STAGES).stages


def test_foreign_weights_of_another_type_or_shape(run: Path) -> None:
    path = run / "base/model/model.safetensors"
    right = load_file(path)
    name = "embed_tokens.weight"
    for tensors in (
        {**right, name: right[name].to(torch.int64)},
        {**right, name: right[name][:1]},
        {**right, "more": right[name]},
        {key: value for key, value in right.items() if key != name},
        {},
    ):
        save_file({key: value.clone() for key, value in tensors.items()}, path)
        write_manifest(run / "base/model")
        with pytest.raises(DataError, match=r"model\.safetensors is not of the model"):
            load_model(run / "base/model")


MANIFESTS = [
    "{}",
    '{"files": {}}',
    '{"files": []}',
    '{"files": {"../x": {"bytes": 1, "sha256": "%s"}}}',
    "[]",
    "3",
    '{"files": {"/etc/passwd": {"bytes": 1, "sha256": "%s"}}}',
    '{"files": {"a\\u0000b": {"bytes": 1, "sha256": "%s"}}}',
    '{"files": {"config.json": {"bytes": true, "sha256": "%s"}}}',
    '{"files": {"config.json": 3}}',
    '{"files": {"config.json": {"bytes": 1, "sha256": "x"}}}',
    '{"files": {"x": {"bytes": -1, "sha256": "%s"}}}',
]


@pytest.mark.parametrize("text", MANIFESTS)
def test_a_manifest_that_is_none(run: Path, recipe: Recipe, text: str) -> None:
    for folder in (run / "base/model", run / "tokenizer", run / "data/base-train/shard_00000"):
        (folder / "manifest.json").write_text(text.replace("%s", "0" * 64))
    told, _ = looked_at(run, recipe)
    assert sum("manifest is missing or damaged" in line for line in told) >= 3


TOKENIZERS = [
    {"digits": 10**9},
    {"digits": "2"},
    {"digits": True},
    {"digits": 0},
    {"vocab_size": 7},
    {"specials": []},
    {"fingerprint": 3},
]


@pytest.mark.parametrize("change", TOKENIZERS, ids=repr)
def test_a_foreign_tokenizer(run: Path, change: dict[str, object]) -> None:
    path = run / "tokenizer/meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    write_manifest(run / "tokenizer")
    with pytest.raises(DataError, match=r"The tokenizer in .* is damaged"):
        Tokenizer.load(run / "tokenizer")
