"""Muon for matrices of which every rank holds a part of the rows: their owners get them whole."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from chatling.model.sharding import local
from chatling.optim.muon import MuonGroup


class ShardedMuonGroup(MuonGroup):
    """As MuonGroup, with other ways for the matrices to their owners and back."""

    def reduce(self, index: int) -> None:
        """The backward pass has summed the gradients already."""

    def _owned(self, tensors: Sequence[Any]) -> Tensor:
        """From each rank's rows of all matrices to those that this one owns, (share, R, C)."""
        ranks, (rows, cols) = self.world.size, tensors[0].shape
        each = -(-rows // ranks)
        parts = [F.pad(part, (0, 0, 0, each - len(part))) for part in map(local, tensors)]
        parts += [torch.zeros_like(parts[0])] * (self.share * ranks - len(parts))
        received = self.world.all_to_all(torch.stack(parts))
        by_matrix = received.view(ranks, self.share, each, cols).transpose(0, 1)
        return by_matrix.reshape(self.share, ranks * each, cols)[:, :rows]

    def _give_back(self, matrices: Tensor) -> None:
        """The reverse way, into the parameters."""
        ranks, (rows, cols) = self.world.size, matrices.shape[1:]
        each = -(-rows // ranks)
        padded = F.pad(matrices, (0, 0, 0, ranks * each - rows))
        by_rank = padded.view(self.share, ranks, each, cols).transpose(0, 1)
        received = self.world.all_to_all(by_rank.reshape(-1, each, cols))
        for parameter, part in zip(map(local, self.parameters), received, strict=False):
            parameter.copy_(part[: len(parameter)])
