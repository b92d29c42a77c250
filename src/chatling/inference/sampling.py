"""Choosing the next token: penalties, temperature, top-k, top-p, min-p, and a draw that depends on
the request alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from chatling.errors import ChatlingError
from chatling.inference.structured_outputs import StructuredOutputsParams
from chatling.messages import shown

GREEDY_BELOW = 1e-5  # a temperature under this would overflow; it means the same as 0
MAX_BIAS, MAX_TOP_LOGPROBS = 100, 20  # as in the OpenAI API
# Least and most of each factor. They are computed with in float32, which knows no 1e-46: it would
# be 0, and nothing left to draw or to divide by.
LIMITS = {
    "temperature": (0, 100),
    "top_p": (1e-6, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
}

Summary = tuple[Tensor, Tensor, Tensor]
TopLogprobs = tuple[tuple[int, float], ...]  # (token id, log-probability), likeliest first


@dataclass(frozen=True)
class SamplingParams:
    """How one request's tokens are chosen, and when it stops.

    temperature 0 takes the most likely token (the lowest id on a tie); top_k 0, top_p 1, min_p 0
    and repetition_penalty 1 are off. min_p drops what is less likely than that share of the
    likeliest; the repetition penalty (CTRL, arXiv 1909.05858) acts on all tokens of prompt and
    answer; `logit_bias` is pairs of (token id, what to add to its logit). `max_tokens` counts
    sampled tokens, not those that the calculator puts in. The text ends before the first of the
    `stop` strings. `top_logprobs` likeliest tokens of each place come with its event. With
    `structured_outputs` only tokens that keep to a JSON schema are drawn, and no calculator calls.
    Raises ChatlingError on values out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int = 0
    structured_outputs: StructuredOutputsParams | None = None

    def __post_init__(self) -> None:
        for name, good, wanted in _CHECKS:
            value = getattr(self, name)
            try:
                right = good(value)
            except (TypeError, ValueError):
                right = False
            if not right:
                raise ChatlingError(f"{name} is {shown(value)}; it must be {wanted}.")

    @property
    def greedy(self) -> bool:
        return self.temperature < GREEDY_BELOW


def _number(least: float, most: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Real) and least <= float(value) <= most


def _count(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Integral) and int(value) >= least


_CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    *(
        (name, _number(least, most), f"a number from {least:g} to {most:g}")
        for name, (least, most) in LIMITS.items()
    ),
    ("top_k", _count(0), "0 (off) or a whole number above"),
    ("max_tokens", _count(1), "a whole number, at least 1"),
    ("seed", lambda value: isinstance(value, Integral), "a whole number"),
    (
        "stop",
        lambda value: (
            not isinstance(value, str) and all(each and isinstance(each, str) for each in value)
        ),
        "texts in a tuple, none of them empty",
    ),
    (
        "logit_bias",
        lambda value: all(
            _count(0)(token) and _number(-MAX_BIAS, MAX_BIAS)(bias) for token, bias in value
        ),
        f"pairs of a token id and a number from -{MAX_BIAS} to {MAX_BIAS}",
    ),
    (
        "top_logprobs",
        lambda value: _count(0)(value) and value <= MAX_TOP_LOGPROBS,
        f"a whole number from 0 to {MAX_TOP_LOGPROBS}",
    ),
    (
        "structured_outputs",
        lambda value: value is None or isinstance(value, StructuredOutputsParams),
        "StructuredOutputsParams",
    ),
)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) with 48 random bits that depends on (seed, position) alone: two rounds of
    splitmix64 (Steele et al. 2014).
    """
    return (_mix(_mix(seed) ^ _mix(position + 0x5851F42D4C957F2D)) >> 16) / 2.0**48


def _mix(x: int) -> int:
    mask = (1 << 64) - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


class Sampler:
    """The settings of a batch's rows as tensors, made once for as long as the rows stay the
    same.
    """

    def __init__(
        self,
        rows: Sequence[SamplingParams],
        vocab_size: int,
        device: torch.device,
        read: Sequence[Sequence[int]] | None = None,
    ):
        """`read` is each row's tokens so far, for the repetition penalty; `saw` adds to them."""
        # MPS has no float64, and its memory is the processor's anyway.
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.rows = rows
        self.all_greedy = all(row.greedy for row in rows)
        self.greedy = torch.tensor([row.greedy for row in rows], device=self.device)
        self.temperature = self._column([1.0 if row.greedy else row.temperature for row in rows])
        limits = [row.top_k if 0 < row.top_k < vocab_size else vocab_size for row in rows]
        filtered = [
            not row.greedy and (limit < vocab_size or row.top_p < 1)
            for row, limit in zip(rows, limits, strict=True)
        ]
        self.ranked = max(
            (limit for limit, used in zip(limits, filtered, strict=True) if used), default=0
        )  # how many to sort, 0 = none
        self.filtered, self.limits = self._column(filtered), self._column(limits)
        self.top_p, self.min_p = (
            self._column([row.top_p for row in rows]),
            self._column([row.min_p for row in rows]),
        )
        self.cuts = bool(self.ranked) or any(row.min_p for row in rows)
        self.top_logprobs = max((row.top_logprobs for row in rows), default=0)
        self.bias, self.penalty = (
            self._biases(vocab_size),
            self._column([row.repetition_penalty for row in rows]),
        )
        self.seen = (
            self._seen(vocab_size, read)
            if any(row.repetition_penalty != 1 for row in rows)
            else None
        )

    def __call__(
        self, logits: Tensor, positions: Sequence[int], summary: Summary | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, V) in fp32 and each row's position in its completion to token ids (B,) and
        their log-probabilities (B,).

        `summary` is `summarize(logits)` where it is known already. Log-probabilities are the
        model's own: of the logits as they came (`constrain` may have been there),
        before penalties, temperature and filters. Every operation treats rows apart, and the draw
        inverts the cumulative distribution in vocabulary order: no row depends on its neighbors.
        """
        logits = logits.to(self.device)
        ids, logprobs, totals = (part.to(self.device) for part in summary or summarize(logits))
        wanted = self._penalised(logits)
        if self.all_greedy and wanted is logits:
            return ids, logprobs
        if wanted is not logits:
            ids = wanted.argmax(dim=-1)
        if not self.all_greedy:
            ids = torch.where(self.greedy, ids, self._draw(wanted, positions))
        return ids, logits.gather(1, ids[:, None])[:, 0] - totals

    def saw(self, tokens: Sequence[int]) -> None:
        """Each row's next token, which need not be the one sampled."""
        if self.seen is not None:
            self.seen.scatter_(1, torch.tensor(tokens, device=self.device)[:, None], True)

    def likeliest(self, logits: Tensor) -> list[TopLogprobs]:
        """Each row's top_logprobs, as many as it asked for, by the logits (B, V) as they came; one
        synchronisation if there are any.
        """
        if not self.top_logprobs:
            return [()] * len(self.rows)
        found = top_logprobs_of(logits.to(self.device), self.top_logprobs)
        return [some[: row.top_logprobs] for row, some in zip(self.rows, found, strict=True)]

    def _penalised(self, logits: Tensor) -> Tensor:
        if self.seen is not None:
            logits = torch.where(
                self.seen,
                torch.where(logits > 0, logits / self.penalty, logits * self.penalty),
                logits,
            )
        return logits if self.bias is None else logits + self.bias

    def _draw(self, logits: Tensor, positions: Sequence[int]) -> Tensor:
        probabilities = ((logits - logits.amax(dim=-1, keepdim=True)) / self.temperature).softmax(
            dim=-1
        )
        if self.cuts:
            probabilities = probabilities * (probabilities >= self._threshold(probabilities))
        # In float64 a 48-bit uniform times the total stays below the total, so a token of
        # probability zero is never drawn.
        cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
        draws = [
            uniform(row.seed, position) for row, position in zip(self.rows, positions, strict=True)
        ]
        target = (
            torch.tensor(draws, dtype=torch.float64).to(self.device, non_blocking=True)[:, None]
            * cumulative[:, -1:]
        )
        return torch.searchsorted(cumulative, target, right=True)[:, 0]

    def _threshold(self, probabilities: Tensor) -> Tensor:
        """(B, 1): the least probability that each row's top-k, then top-p, and min-p keep; all that
        equal it are kept, too.
        """
        least = self.min_p * probabilities.amax(dim=-1, keepdim=True)
        if not self.ranked:
            return least
        ranked = probabilities.topk(self.ranked, dim=-1).values  # descending
        within = torch.arange(self.ranked, device=self.device) < self.limits
        cumulative = (ranked * within).cumsum(dim=-1, dtype=torch.float64)
        kept = within & (
            cumulative - ranked < self.top_p * cumulative[:, -1:]
        )  # the nucleus: what comes before is less than p
        nucleus = ranked.masked_fill(~kept, float("inf")).amin(dim=-1, keepdim=True)
        return torch.maximum(least, torch.where(self.filtered, nucleus, 0.0))

    def _biases(self, vocab_size: int) -> Tensor | None:
        """(B, V), or None where no row has any."""
        pairs = [
            (i, token, bias)
            for i, row in enumerate(self.rows)
            for token, bias in row.logit_bias
            if token < vocab_size
        ]
        if not pairs:
            return None
        at, tokens, biases = zip(*pairs, strict=True)
        bias = torch.zeros(len(self.rows), vocab_size)
        bias[at, tokens] = torch.tensor(biases, dtype=torch.float32)
        return bias.to(self.device)

    def _seen(self, vocab_size: int, read: Sequence[Sequence[int]] | None) -> Tensor:
        """(B, V) bool: which tokens each row has read."""
        seen = torch.zeros(len(self.rows), vocab_size, dtype=torch.bool)
        for row, tokens in zip(seen, read or (), strict=False):
            row[list(tokens)] = True
        return seen.to(self.device)

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device)[:, None]


def summarize(logits: Tensor) -> Summary:
    """Of each row of logits (B, V): the likeliest id, the first of equals; its log-probability; the
    logarithm of all exponentials' sum.
    """
    best, totals = (
        logits.argmax(dim=-1),
        logits.logsumexp(dim=-1),
    )  # argmax is documented to return the first of equals
    return best, logits.amax(dim=-1) - totals, totals


def constrain(
    logits: Tensor, allowed: Sequence[Tensor | None], summary: Summary | None = None
) -> tuple[Tensor, Summary | None]:
    """Logits (B, V) and their summary with those tokens of a row impossible that are not `allowed`
    (V,) bool; None allows all, and such a row keeps its bits.
    """
    if all(row is None for row in allowed):
        return logits, summary
    constrained = torch.tensor([row is not None for row in allowed], device=logits.device)
    every = torch.ones(logits.shape[-1], dtype=torch.bool)
    possible = torch.stack([every if row is None else row for row in allowed]).to(logits.device)
    masked = logits.masked_fill(~possible, float("-inf"))
    if summary is None:
        return masked, None
    best, logprob, total = (
        torch.where(constrained, new, old)
        for new, old in zip(summarize(masked), summary, strict=True)
    )
    return masked, (best, logprob, total)


def log_probability(logits: Tensor, ids: Tensor) -> Tensor:
    """(B,) log-probabilities of ids (B,) under logits (B, V)."""
    return logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(dim=-1)


def top_logprobs_of(logits: Tensor, count: int) -> list[TopLogprobs]:
    """The `count` likeliest tokens of each row of logits (B, V); fewer where fewer are possible."""
    logprobs, ids = logits.log_softmax(dim=-1).topk(min(count, logits.shape[-1]), dim=-1)
    return [
        tuple(pair for pair in zip(some, theirs, strict=True) if pair[1] > float("-inf"))
        for some, theirs in zip(ids.tolist(), logprobs.tolist(), strict=True)
    ]
