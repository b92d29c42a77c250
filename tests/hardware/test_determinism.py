"""Strict mode, and what cuBLAS reads."""

from __future__ import annotations

import os

import pytest
import torch

from chatling.errors import MachineError
from chatling.hardware.determinism import WORKSPACE, deterministic, prepare_determinism


def test_it_holds_within_and_not_after() -> None:
    enabled = torch.are_deterministic_algorithms_enabled
    with deterministic(False):
        assert not enabled()
    with deterministic(True):
        assert enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_the_environment_is_set_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    prepare_determinism()
    assert os.environ[WORKSPACE] == ":16:8"
    monkeypatch.setenv(WORKSPACE, ":0:0")
    with pytest.raises(MachineError, match="needs CUBLAS_WORKSPACE_CONFIG to be :4096:8 or"):
        prepare_determinism()
    monkeypatch.delenv(WORKSPACE)
    prepare_determinism()
    assert os.environ[WORKSPACE] == ":4096:8"
