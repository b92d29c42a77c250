"""What is set for torch, and what the user's environment keeps."""

from __future__ import annotations

import os

import pytest

from chatling.hardware.environment import set_environment

SPINS, MEMORY = {"GOMP_SPINCOUNT": "1000"}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ({}, SPINS | MEMORY),
        ({"GOMP_SPINCOUNT": "7"}, MEMORY),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, MEMORY),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, SPINS),
        ({"PYTORCH_ALLOC_CONF": "backend:native"}, SPINS),
    ],
)
def test_nothing_is_set_that_the_user_has_a_word_for(
    own: dict[str, str], added: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(own))
    set_environment()
    assert os.environ == own | added
