"""Runs and models say their format: a newer one is one sentence, an older one is read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from chatling.errors import ChatlingError, DataError
from chatling.files import write_manifest
from chatling.model.config import ModelRecipe
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder
from chatling.run_state import FORMAT, NewerFormat, pack, unpack
from chatling.train.checkpoint import load_model, save_model

STATE = {"stages": {"base": {"status": "done", "steps": 3}}, "execution": {"dtype": "float32"}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.write_state(STATE)
    return folder


def rewrite(path: Path, change: dict[str, Any], *, drop: tuple[str, ...] = ()) -> None:
    found = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: found[key] for key in found if key not in drop}))


def test_a_state_says_its_format(run: RunFolder) -> None:
    assert json.loads((run.path / "state.json").read_text())["format"] == FORMAT == 1
    assert run.read_state() == STATE == unpack(pack(STATE))


def test_a_newer_state_is_one_sentence_and_no_damage(run: RunFolder) -> None:
    """Its copy, which is older, must not be taken for it; nor is a checksum asked for."""
    rewrite(run.path / "state.json", {"format": 7, "stages": []})
    with warnings.catch_warnings(action="error"), pytest.raises(NewerFormat) as caught:
        run.read_state()
    assert "state.json has format 7" in str(caught.value)
    assert "up to 1" in str(caught.value)
    assert "pip install -U chatling" in str(caught.value)
    assert isinstance(caught.value, ChatlingError)


def test_a_state_from_before_formats_is_read_and_written_anew(run: RunFolder) -> None:
    rewrite(run.path / "state.json", {}, drop=("format", "sha256"))
    with warnings.catch_warnings(action="error"):
        assert run.read_state() == STATE
    run.write_state(run.read_state())
    assert json.loads((run.path / "state.json").read_text())["format"] == FORMAT


@pytest.mark.parametrize("wrong", ["1", 1.0, None, True, -1, [1], {}])
def test_a_format_that_is_none_is_damage(run: RunFolder, wrong: Any) -> None:
    rewrite(run.path / "state.json", {"format": wrong})
    with pytest.warns(UserWarning, match=r"format is .* its copy"):
        assert run.read_state() == STATE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    recipe = ModelRecipe(depth=1, width=16, head_width=8, context=8)
    model = GPT(recipe.resolve(300))
    model.initialize(torch.Generator().manual_seed(0))
    save_model(model, tmp_path / "model", {"stage": "base"})
    return tmp_path / "model"


def test_a_model_says_its_format(model: Path) -> None:
    assert json.loads((model / "config.json").read_text())["format"] == FORMAT


@pytest.mark.parametrize(
    ("change", "drop", "fault"),
    [
        ({"format": 2}, (), r"config\.json has format 2; .* up to 1\. Update chatling"),
        ({"format": "new"}, (), r'config\.json says that its format is "new"'),
        ({}, ("format",), None),
    ],
)
def test_a_model_is_read_by_its_format(
    model: Path, change: dict[str, Any], drop: tuple[str, ...], fault: str | None
) -> None:
    rewrite(model / "config.json", change, drop=drop)
    write_manifest(model)
    if fault is None:
        assert load_model(model).config.width == 16
        return
    with pytest.raises(DataError, match=fault):
        load_model(model)
