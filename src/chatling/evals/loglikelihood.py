"""How likely a model finds given continuations: many at once, and what several of them begin with
is read once.

A question's sequences (the choices of a multiple-choice question, say) mostly begin alike. They
become one row, the shared beginning and then every ending, in which an ending sees the beginning
and itself (`SharedBeginning`): one forward pass, nothing cached. Rows are sorted by length and
padded in batches; logits are made only for the tokens that are scored.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chatling.model.gpt import GPT
from chatling.model.losses import token_losses

CPU_BATCH, GPU_BATCH = 2048, 32_768  # tokens of a batch, padding included
MASK_ELEMENTS = 1 << 26  # of a batch's attention mask, which is quadratic in its length
# sequences that differ within their first few tokens (cropped at different places) are not worth
# one row
BEGINNING = 4


@dataclass(frozen=True)
class Question:
    """Sequences of token ids (T,), and from which token on each is scored (at least 1, since
    nothing foretells the first).
    """

    sequences: tuple[np.ndarray, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class SpanScore:
    """Of a sequence's scored tokens: their summed negative log-likelihood in nats, their number,
    and whether each is the likeliest.
    """

    nats: float
    tokens: int
    greedy: bool


OnProgress = Callable[[int, int], None]  # is told how many of how many are done
Scores = list[tuple[SpanScore, ...]]  # by question, one for each of its sequences


class Scorer(Protocol):
    """A model that can be asked how likely tokens are. `context` is the most it reads at once;
    None: any number.
    """

    @property
    def context(self) -> int | None: ...

    def score(
        self, questions: Sequence[Question], progress: OnProgress | None = None
    ) -> Scores: ...


@dataclass(frozen=True)
class Row:
    """A sequence's worth of tokens to read: a beginning, and endings that each continue it.

    `wanted` are the places (in the row) whose next token is scored, `targets` those tokens; `spans`
    tells whose they are: (question,
    sequences, how many of `wanted`).
    """

    beginning: np.ndarray
    endings: tuple[np.ndarray, ...]
    wanted: np.ndarray
    targets: np.ndarray
    spans: tuple[tuple[int, tuple[int, ...], int], ...]

    def __len__(self) -> int:
        return len(self.beginning) + sum(map(len, self.endings))


class SharedBeginning:
    """Implements `model.attention.Cache` for rows that branch: what stands in an ending follows the
    beginning, not the ending before it.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        ids: np.ndarray,
        windows: set[int],
        dtype: torch.dtype,
        device: torch.device,
    ):
        """`ids` (B, T) holds the rows, padded; nobody reads the padding."""
        places = np.arange(ids.shape[1])
        positions, branches = np.tile(places, (len(rows), 1)), np.zeros(ids.shape, np.int64)
        previous = np.pad(ids[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        for b, row in enumerate(rows):
            at = first = len(row.beginning)
            for number, ending in enumerate(row.endings, 1):
                end = at + len(ending)
                positions[b, at:end] = places[first : first + len(ending)]
                branches[b, at:end] = number
                previous[b, at : at + 1] = row.beginning[-1] if first else -1
                at = end
            # Padding is an ending of its own, within the context.
            positions[b, at:], branches[b, at:] = first, len(row.endings) + 1
        self.positions = torch.from_numpy(positions).to(device)
        self.previous = torch.from_numpy(previous).to(device)
        branch = torch.from_numpy(branches).to(device)
        # (B, T, T), query by key
        distance = self.positions[:, :, None] - self.positions[:, None, :]
        own = branch[:, None, :] == branch[:, :, None]
        seen = (distance >= 0) & ((branch[:, None, :] == 0) | own)
        nothing = torch.zeros((), dtype=dtype, device=device)
        self._masks = {
            window: nothing.where(seen & (distance < window) if window else seen, float("-inf"))[
                :, None
            ]
            for window in windows
        }

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """q (B, T, H, E) over k and v (B, T, K, E); returns (B, T, H, E)."""
        grouped = q.shape[2] != k.shape[2]
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=self._masks[window], enable_gqa=grouped
        ).transpose(1, 2)


@dataclass(frozen=True)
class ModelScorer:
    """Scores with a model of ours. A sequence may be one token longer than the context, since its
    last token is not read.
    """

    model: GPT
    batch_tokens: int | None = None  # default: what suits the device

    @property
    def context(self) -> int:
        return self.model.config.context

    @cached_property
    def _windows(self) -> set[int]:
        return {self.model.config.window(layer) for layer in range(self.model.config.depth)}

    @torch.no_grad()
    def score(self, questions: Sequence[Question], progress: OnProgress | None = None) -> Scores:
        """Score every sequence. A span without tokens scores 0 nats and is greedy."""
        width = self.model.config.width
        rows = [row for i, each in enumerate(questions) for row in question_rows(i, each, width)]
        scores = [[SpanScore(0.0, 0, True)] * len(question.sequences) for question in questions]
        budget = self.batch_tokens or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        done = 0
        for branched in (False, True):  # rows of one kind in a batch: plain ones need no mask
            kind = [row for row in rows if bool(row.endings) == branched]
            for batch in length_sorted([len(row) for row in kind], budget):
                self._score_rows([kind[i] for i in batch], scores)
                done += len(batch)
                if progress is not None:
                    progress(done, len(rows))
        return [tuple(each) for each in scores]

    def _score_rows(self, rows: Sequence[Row], scores: list[list[SpanScore]]) -> None:
        losses, hits = self._read(rows)
        at = 0
        for question, sequences, count in (span for row in rows for span in row.spans):
            own = slice(at, at + count)
            found = SpanScore(float(losses[own].sum()), count, bool(hits[own].all()))
            for sequence in sequences:
                scores[question][sequence] = found
            at += count

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device

    def _read(self, rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
        """Losses in nats (N,) float64 and hits (N,) of all that the rows want, in order."""
        length = max(map(len, rows))
        ids = np.zeros((len(rows), length), np.int64)
        for b, row in enumerate(rows):
            ids[b, : len(row)] = np.concatenate((row.beginning, *row.endings))
        cache = None
        if any(row.endings for row in rows):
            cache = SharedBeginning(rows, ids, self._windows, self.model.compute_dtype, self.device)
        hidden = self.model(torch.from_numpy(ids).to(self.device), cache)  # (B, T, D)
        wanted = np.concatenate([row.wanted + b * length for b, row in enumerate(rows)])
        targets = np.concatenate([row.targets for row in rows])
        picked = hidden.flatten(0, 1)[torch.from_numpy(wanted).to(self.device)]  # (N, D)
        goals = torch.from_numpy(targets.astype(np.int64)).to(self.device)
        losses, hits = token_losses(
            picked[None], self.model.lm_head.weight, goals[None], self.model.config.softcap
        )
        return losses[0].cpu().double().numpy(), hits[0].cpu().numpy()


def question_rows(number: int, question: Question, width: int) -> Iterator[Row]:
    """The rows that read question `number` at the least cost for a model of a given width; equal
    sequences are read once.
    """
    same: dict[tuple[bytes, int], list[int]] = {}
    for i, (ids, start) in enumerate(zip(question.sequences, question.starts, strict=True)):
        if len(ids) > start:
            same.setdefault((ids.tobytes(), start), []).append(i)
    groups: dict[bytes, list[list[int]]] = {}
    for owners in same.values():
        groups.setdefault(question.sequences[owners[0]][:BEGINNING].tobytes(), []).append(owners)
    for group in groups.values():
        shared = _row(number, question, group)
        apart = [_row(number, question, [owners]) for owners in group]
        saves = _cost(len(shared), width) < sum(_cost(len(row), width) for row in apart)
        yield from [shared] if len(group) > 1 and saves else apart


def _cost(tokens: int, width: int) -> int:
    """Of reading a row, in units of 4 x width FLOPs a layer: 24 width² a token in the matrices, 4
    width x tokens in attention.
    """
    return tokens * (6 * width + tokens)


def _row(number: int, question: Question, group: Sequence[list[int]]) -> Row:
    """One row for some sequences of a question, each given with its equals."""
    sequences = [question.sequences[owners[0]] for owners in group]
    shared = common_prefix(sequences) if len(sequences) > 1 else len(sequences[0]) - 1
    endings, wanted, targets, spans = [], [], [], []
    at = shared
    for owners, ids in zip(group, sequences, strict=True):
        start = question.starts[owners[0]]
        before = np.arange(start - 1, len(ids) - 1)  # the tokens after which the scored ones come
        wanted.append(np.where(before < shared, before, before + at - shared))
        targets.append(ids[start:])
        spans.append((number, tuple(owners), len(before)))
        if len(sequences) > 1:
            endings.append(ids[shared : len(ids) - 1])
            at += len(endings[-1])
    return Row(
        sequences[0][:shared],
        tuple(endings),
        np.concatenate(wanted),
        np.concatenate(targets),
        tuple(spans),
    )


def crop(question: Question, longest: int | None) -> Question:
    """The last `longest` tokens of each sequence; the same question when all fit. What is scored
    may lose its beginning, too.
    """
    excess = [0 if longest is None else max(0, len(ids) - longest) for ids in question.sequences]
    if not any(excess):
        return question
    sequences = tuple(ids[over:] for ids, over in zip(question.sequences, excess, strict=True))
    return Question(
        sequences,
        tuple(max(1, start - over) for start, over in zip(question.starts, excess, strict=True)),
    )


def common_prefix(sequences: Sequence[np.ndarray]) -> int:
    """How many tokens all sequences begin with."""
    shortest = min(map(len, sequences))
    unlike = np.zeros(shortest, bool)
    for other in sequences[1:]:
        unlike |= sequences[0][:shortest] != other[:shortest]
    return int(unlike.argmax()) if unlike.any() else shortest


def common_suffix(sequences: Sequence[np.ndarray]) -> int:
    """How many tokens all sequences end with."""
    return common_prefix([ids[::-1] for ids in sequences])


def length_sorted(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices in batches of like lengths, the longest first, each of at most `tokens` tokens with
    its padding, or a single one.
    """
    # Stable: equal lengths stay in order.
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    found: list[list[int]] = []
    room = 0
    for i in order:
        if not found or len(found[-1]) >= room:
            found.append([])
            room = min(tokens, MASK_ELEMENTS // max(1, lengths[i])) // max(1, lengths[i])
        found[-1].append(i)
    return found
