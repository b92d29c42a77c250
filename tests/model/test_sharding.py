"""Blocks spread over ranks compute what whole ones do, in training and when they are looked at, and
are saved so that any number of ranks resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chatling.hardware.distributed import DistContext
from rank_training import difference, look, resume_halfway, save_halfway, train
from ranks import on_ranks

CLOSE = 1e-10  # in float64; where gradients are tiny, AdamW divides by numbers that are, too


@pytest.mark.parametrize(
    ("preset", "ranks"), [("classic", 2), pytest.param("modern", 4, marks=pytest.mark.slow)]
)
def test_spread_blocks_make_the_steps_of_one_process(preset: Any, ranks: int) -> None:
    alone = train(DistContext(), preset, torch.float64)
    found = on_ranks(train, ranks, preset, torch.float64, True, None, True)
    assert all(difference(found[0], other) == 0 for other in found[1:])
    assert found[0]["norms"] == pytest.approx(alone["norms"], rel=1e-12)
    assert difference(found[0], alone) < CLOSE


@pytest.mark.slow
def test_what_four_ranks_save_three_resume_and_one(tmp_path: Path) -> None:
    alone = train(DistContext(), "modern", torch.float64)
    on_ranks(save_halfway, 4, tmp_path, True)
    for found in (
        on_ranks(resume_halfway, 3, tmp_path, True)[0],
        resume_halfway(DistContext(), tmp_path, False),
    ):
        assert difference(found, alone) < CLOSE


@pytest.mark.slow
def test_ranks_look_at_different_numbers_of_rows() -> None:
    loss, states = look(DistContext(), False)
    for found in on_ranks(look, 3, True):
        assert found[0] == pytest.approx(loss, rel=1e-12)
        np.testing.assert_allclose(found[1], states, rtol=0, atol=1e-12)
