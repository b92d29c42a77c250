"""Ranks that share the optimizer's work make the steps of one process, whichever of them are on one
node, and whether or not gradients are reduced beside the backward pass.
"""

from __future__ import annotations

import pytest
import torch

from chatling.hardware.distributed import DistContext
from rank_training import STEPS, difference, train
from ranks import on_ranks


def test_two_ranks_reduce_beside_the_backward_pass_to_the_same_bits() -> None:
    first, second = on_ranks(train, 2, "classic", torch.float32, True)
    plain, _ = on_ranks(train, 2, "classic", torch.float32, False)
    assert difference(first, second) == difference(first, plain) == 0
    assert first["norms"] == plain["norms"]
    assert plain["begun"] == [0] * STEPS
    # all, but for the first step, whose order is taken over
    assert first["begun"] == [0, 32, 32, 32]


@pytest.mark.parametrize("preset", ["classic", pytest.param("modern", marks=pytest.mark.slow)])
def test_four_ranks_make_the_steps_of_one(preset: str) -> None:
    alone = train(DistContext(), preset, torch.float64, True)
    for node in (4, 2):
        found = on_ranks(train, 4, preset, torch.float64, True, node=node)
        assert all(difference(found[0], other) == 0 for other in found[1:])
        assert found[0]["norms"] == pytest.approx(alone["norms"], rel=1e-12)
        assert difference(found[0], alone) < 1e-11  # sums in another order


def test_a_rank_that_learns_nothing_in_a_step_takes_part() -> None:
    found = on_ranks(train, 2, "modern", torch.float64, True, 1)
    assert difference(*found) == 0
    assert found[1]["begun"] == [0, 0, found[0]["begun"][2], 0]
