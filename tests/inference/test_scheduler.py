"""Which requests run, and which blocks are read: decided without a model."""

from __future__ import annotations

import torch

from chatling.inference.prefix_cache import BLOCK
from chatling.inference.request import Request, RequestState
from chatling.inference.scheduler import PATIENCE, Scheduler
from chatling.tokenizer.bpe import Tokenizer

TOKENIZER = Tokenizer([bytes([byte]) for byte in range(256)], digits=2)
LOGITS = torch.zeros(1)


def waiting(scheduler: Scheduler, *prompts: list[int], echo: bool = False) -> list[RequestState]:
    states = [RequestState(Request(tuple(p), echo=echo), TOKENIZER, 1000) for p in prompts]
    scheduler.waiting.extend(states)
    return states


def read_all(scheduler: Scheduler) -> list[tuple[RequestState, int]]:
    """Read and copy as the engine does; returns what was read."""
    read = []
    while plan := scheduler.plan():
        read += plan
        for state, start in plan:
            scheduler.record(state, start // BLOCK + 1, LOGITS)
        for copy in scheduler.copies():
            scheduler.record(copy.state, copy.blocks)
    return read


def test_the_lowest_slots_go_to_those_who_waited_longest() -> None:
    scheduler = Scheduler(max_batch_size=2, prefill_blocks=4)
    first, second, third = waiting(scheduler, [1], [2], [3])
    scheduler.admit([2])
    assert (first.slot, second.slot, list(scheduler.waiting)) == (0, 1, [third])
    scheduler.remove(first)
    scheduler.remove(first)  # it is gone already
    scheduler.admit([2])
    assert (third.slot, scheduler.slots) == (0, [third, second])


def test_each_prompt_is_read_in_turn_and_equal_blocks_once() -> None:
    scheduler = Scheduler(max_batch_size=3, prefill_blocks=3)
    shared = [7] * BLOCK
    long, same, other = waiting(scheduler, [*shared, *[1] * 2 * BLOCK], [*shared, 9], [2])
    scheduler.admit([3])
    assert scheduler.plan() == [(long, 0), (other, 0), (long, BLOCK)]
    read = read_all(scheduler)
    assert (same, 0) not in read
    assert (same, BLOCK) in read
    assert len(read) == 5
    assert set(scheduler.prefilled()) == {long, same, other}
    assert scheduler.decoding() == [long, same, other]


def test_an_echo_reads_all_of_its_prompt() -> None:
    scheduler = Scheduler(max_batch_size=2, prefill_blocks=4)
    waiting(scheduler, [5] * BLOCK)
    scheduler.admit([2])
    read_all(scheduler)
    (echo,) = waiting(scheduler, [5] * BLOCK, echo=True)
    scheduler.admit([2])
    assert read_all(scheduler) == [(echo, 0)]


def test_a_prompt_waits_for_others_only_while_rows_decode() -> None:
    scheduler = Scheduler(max_batch_size=3, prefill_blocks=2)
    waiting(scheduler, [1])
    scheduler.admit([3])
    assert scheduler.worth_prefilling()  # nothing decodes yet
    read_all(scheduler)
    scheduler.prefilled()
    assert not scheduler.worth_prefilling()  # nothing to read
    waiting(scheduler, [2])
    scheduler.admit([3])
    assert [scheduler.worth_prefilling() for _ in range(PATIENCE + 1)] == [False] * PATIENCE + [
        True
    ]
    waiting(scheduler, [3])
    scheduler.admit([3])
    assert scheduler.worth_prefilling()  # two blocks: as many as are read at once
