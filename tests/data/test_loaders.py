"""Steps: the same rows on any number of processes, exact resume, masks, and the prefetching
thread.
"""

import gc
import itertools
import threading
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.loaders import (
    FEW_LENGTHS,
    ConversationBatches,
    PretrainBatches,
    few_padded,
    padded,
    prefetch,
)
from chatling.data.mixtures import Mapped
from chatling.data.packing import IGNORE, PackedRows
from chatling.data.shard_writer import write_conversation_shards
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError, RecipeError
from chatling.messages import Conversation, Message, Part
from chatling.tokenizer.chat_template import render
from chatling.tokenizer.train import TokenizerConfig, train_tokenizer

BOS = 100_000


def rows_of(steps, width):
    """A step's rows in global order from the steps of all ranks: [(inputs, targets)], each (rows,
    T).
    """
    inputs = np.stack(
        [np.concatenate([micro.inputs for micro in step.micro_batches]) for step in steps], axis=1
    ).reshape(-1, width)
    targets = np.stack(
        [np.concatenate([micro.targets for micro in step.micro_batches]) for step in steps], axis=1
    ).reshape(-1, width)
    return inputs, targets


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=50),
    st.integers(1, 24),
    st.integers(0, 9),
    st.sampled_from([1, 2, 3]),
)
def test_pretraining_steps_are_the_rows_in_order_for_any_number_of_processes(
    numbered, lengths, row_tokens, seed, world
):
    rows = PackedRows(numbered(lengths), row_tokens, BOS, seed, block_documents=7)
    ranks = [PretrainBatches(rows, 12, 2, rank, world).steps() for rank in range(world)]
    endless = itertools.chain.from_iterable(rows.rows(epoch) for epoch in itertools.count())
    for _ in range(2 * rows.row_count // 12 + 2):  # over the epoch's end twice
        steps = [next(rank) for rank in ranks]
        inputs, targets = rows_of(steps, row_tokens)
        expected = np.stack(list(itertools.islice(endless, 12)))
        assert np.array_equal(targets, expected[:, 1:])
        assert np.array_equal(inputs, np.where(expected[:, :-1] == IGNORE, BOS, expected[:, :-1]))
        assert [step.count for step in steps] == [
            sum((micro.targets != IGNORE).sum() for micro in step.micro_batches) for step in steps
        ]
        assert len({(tuple(step.state.items()), step.position, step.tokens) for step in steps}) == 1
        assert steps[0].tokens == (expected[:, :-1] != IGNORE).sum()
        assert all(micro.inputs.shape == (2, row_tokens) for micro in steps[0].micro_batches)
        assert {(micro.inputs.dtype, micro.targets.dtype) for micro in steps[0].micro_batches} == {
            (np.dtype(np.int32), np.dtype(np.int64))
        }


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(0, 9))
def test_of_packed_conversations_the_answers_alone_may_be_trained_on(row_tokens, seed):
    shards = conversations(seed=seed)
    answers = {t for i in range(40) for t in shards.document(i)[shards.mask(i) == 1].tolist()}
    rows = PackedRows(shards, row_tokens, BOS, seed)
    whole = PretrainBatches(rows, 4, 2).once()
    for micro, every in zip(
        PretrainBatches(rows, 4, 2, answers_only=True).once(), whole, strict=True
    ):
        assert np.array_equal(micro.inputs, every.inputs)
        asked = ~np.isin(every.targets, list(answers))
        assert np.array_equal(micro.targets, np.where(asked, IGNORE, every.targets))


def conversations(count=40, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 90, count)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    ids = np.arange(offsets[-1], dtype=np.uint32)
    mask = rng.integers(0, 2, len(ids)).astype(np.uint8)
    return TokenShards(
        np.split(ids, offsets[3:-1:3]), offsets, BOS, np.split(mask, offsets[3:-1:3])
    )


def sources(world=1, rank=0, step=6):
    lengths = np.random.default_rng(3).integers(1, 90, 40).tolist()
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    text = TokenShards([np.arange(offsets[-1], dtype=np.uint32)], offsets, BOS)
    return {
        "packed": PretrainBatches(PackedRows(text, 32, BOS, 1), step, 1, rank, world),
        "conversations": ConversationBatches(
            conversations(),
            step,
            1,
            rank,
            world,
            bos=BOS,
            seed=1,
            max_tokens=64,
            pad_to_multiple_of=16,
        ),
    }


def same_step(a, b):
    return (a.state, a.position, a.count, a.tokens) == (
        b.state,
        b.position,
        b.count,
        b.tokens,
    ) and all(
        np.array_equal(x.inputs, y.inputs) and np.array_equal(x.targets, y.targets)
        for x, y in zip(a.micro_batches, b.micro_batches, strict=True)
    )


@pytest.mark.parametrize("kind", ["packed", "conversations"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_once_brings_each_row_once_for_any_number_of_processes(kind, world):
    loss_mask = [
        micro.targets
        for rank in range(world)
        for micro in sources(world, rank, step=12)[kind].once()
    ]
    if kind == "packed":
        expected = [row[1:] for row in sources()[kind].rows.rows(0)]
    else:
        shards = conversations()
        expected = [
            shards.document(i)[:64][shards.mask(i)[:64] == 1] for i in range(shards.documents)
        ]
    found, wanted = (
        np.sort(np.concatenate([part[part != IGNORE] for part in parts]))
        for parts in (loss_mask, expected)
    )
    assert np.array_equal(found, wanted)


def test_once_stops_after_enough_tokens_and_has_one_shape():
    micro = list(PretrainBatches(sources()["packed"].rows, 12, 4).once(32 * 6))
    assert [batch.inputs.shape for batch in micro] == [(4, 32), (4, 32)]
    assert (micro[1].targets[2:] == IGNORE).all()
    assert (micro[1].targets[:2] != IGNORE).all()


@pytest.mark.parametrize("kind", ["packed", "conversations"])
@pytest.mark.parametrize("after", [0, 3, 6, 17])
def test_resuming_from_any_state_goes_on_with_the_same_steps(kind, after):
    whole = list(itertools.islice(sources()[kind].steps(), 24))
    resumed = itertools.islice(sources()[kind].steps(whole[after].state), 24 - after - 1)
    assert all(same_step(a, b) for a, b in zip(whole[after + 1 :], resumed, strict=True))
    assert len({step.position for step in whole}) == len(whole)


@pytest.mark.parametrize("kind", ["packed", "conversations"])
def test_resuming_exactly_at_the_end_of_an_epoch(kind):
    source = sources(step=1)[kind]
    whole = list(itertools.islice(source.steps(), source.rows_per_epoch + 3))
    end = whole[source.rows_per_epoch - 1]
    assert end.state == {"epoch": 0, "row": source.rows_per_epoch}
    assert same_step(next(sources(step=1)[kind].steps(end.state)), whole[source.rows_per_epoch])


def test_conversations_are_learnt_by_their_mask_once_an_epoch_by_any_number_of_processes():
    shards = conversations(42)
    for world in (1, 2, 3):
        ranks = [
            ConversationBatches(
                shards, 6, 1, rank, world, bos=BOS, seed=4, max_tokens=100, pad_to_multiple_of=8
            ).steps()
            for rank in range(world)
        ]
        learnt: list[int] = []
        for _ in range(7):  # 42 conversations are one epoch
            steps = [next(rank) for rank in ranks]
            learnt += [
                t
                for step in steps
                for micro in step.micro_batches
                for t in micro.targets[micro.targets != IGNORE].tolist()
            ]
            # inputs are bos and all tokens but the last
            assert steps[0].tokens == sum(
                (micro.inputs != BOS).sum() + len(micro.inputs)
                for step in steps
                for micro in step.micro_batches
            )
        masked = [t for i in range(42) for t in shards.document(i)[shards.mask(i) == 1].tolist()]
        assert sorted(learnt) == sorted(masked)
        assert steps[0].state == {"epoch": 0, "row": 42}


def test_conversations_come_in_another_order_each_epoch_and_seed():
    def firsts(seed, epoch):
        source = ConversationBatches(
            conversations(), 1, 1, bos=BOS, seed=seed, max_tokens=100, pad_to_multiple_of=100
        )
        return [
            step.micro_batches[0].inputs[0, 1]
            for step in itertools.islice(source.steps({"epoch": epoch, "row": 0}), 40)
        ]

    orders = [firsts(0, 0), firsts(0, 1), firsts(1, 0)]
    assert orders[0] == firsts(0, 0)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])


def test_a_conversation_row_is_bos_then_its_tokens_shifted_by_one():
    shards = TokenShards(
        [np.array([5, 6, 7, 8, 9], np.uint16)],
        np.array([0, 3, 5]),
        100,
        [np.array([0, 1, 1, 0, 1], np.uint8)],
    )
    step = next(
        ConversationBatches(
            shards, 2, 2, bos=50, seed=0, max_tokens=10, pad_to_multiple_of=4
        ).steps()
    )
    assert step.micro_batches[0].inputs.tolist() == [
        [50, 8, 50, 50],
        [50, 5, 6, 50],
    ]  # sorted by length
    assert step.micro_batches[0].targets.tolist() == [
        [IGNORE, 9, IGNORE, IGNORE],
        [IGNORE, 6, 7, IGNORE],
    ]
    assert (step.count, step.tokens, step.position) == (3, 5, "0:0")


def test_over_long_conversations_are_cropped_and_counted_and_widths_are_buckets():
    shards = conversations(60)
    source = ConversationBatches(
        shards, 6, 2, bos=BOS, seed=0, max_tokens=50, pad_to_multiple_of=16
    )
    assert source.cropped == (shards.lengths > 50).sum() > 0
    widths = {
        micro.inputs.shape[1]
        for step in itertools.islice(source.steps(), 10)
        for micro in step.micro_batches
    }
    assert widths <= {16, 32, 48, 50}
    assert len(widths) > 1
    fixed = ConversationBatches(shards, 6, 2, bos=BOS, seed=0, max_tokens=50, pad_to_multiple_of=50)
    assert {
        micro.inputs.shape
        for step in itertools.islice(fixed.steps(), 10)
        for micro in step.micro_batches
    } == {(2, 50)}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4096), st.integers(1, 256))
def test_a_compiler_meets_few_lengths_whatever_the_context(most: int, multiple: int) -> None:
    """No length is cut; where there are few multiples, nothing changes."""
    plain = [padded(length, multiple, most) for length in range(1, most + 1)]
    few = [few_padded(length, multiple, most) for length in range(1, most + 1)]
    assert all(a <= b <= most for a, b in zip(plain, few, strict=True))
    assert few == sorted(few)
    assert len(set(few)) <= FEW_LENGTHS
    assert len(set(plain)) > FEW_LENGTHS or few == plain


def test_a_step_that_does_not_divide_is_refused():
    with pytest.raises(RecipeError, match=r"10 conversations .* multiple of 6"):
        ConversationBatches(conversations(), 10, 2, 0, 3, bos=BOS, seed=0, max_tokens=64)
    with pytest.raises(RecipeError, match=r"8 rows .* multiple of 3"):
        PretrainBatches(sources()["packed"].rows, 8, 3)
    with pytest.raises(RecipeError, match="0 rows"):
        PretrainBatches(sources()["packed"].rows, 0, 1)
    with pytest.raises(RecipeError, match="multiples of 0"):
        ConversationBatches(
            conversations(), 6, 1, bos=BOS, seed=0, max_tokens=64, pad_to_multiple_of=0
        )


def test_plain_text_is_no_food_for_sft():
    text = TokenShards([np.arange(4)], np.array([0, 4]), 10)
    with pytest.raises(DataError, match="masks"):
        ConversationBatches(text, 1, 1, bos=0, seed=0, max_tokens=8)


def prefetch_threads():
    return [thread for thread in threading.enumerate() if "chatling-prefetch" in thread.name]


@pytest.fixture
def _no_threads_left():
    assert not prefetch_threads()
    yield
    gc.collect()
    assert not prefetch_threads()


@pytest.mark.usefixtures("_no_threads_left")
class TestPrefetch:
    def test_gives_the_same_items_and_ends(self):
        assert list(prefetch(iter(range(50)), depth=3)) == list(range(50))
        assert list(prefetch(iter([]))) == []

    def test_works_ahead_but_only_so_far(self):
        made = []
        ahead = prefetch((made.append(i) or i for i in range(100)), depth=3)
        assert next(ahead) == 0
        deadline = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 5  # one taken, three waiting, one in hand
        ahead.close()

    def test_raises_the_iterators_error_after_the_items_before_it(self):
        def broken():
            yield 1
            raise DataError("shard gone")

        ahead = prefetch(broken())
        assert next(ahead) == 1
        with pytest.raises(DataError, match="shard gone"):
            next(ahead)

    def test_closing_ends_the_thread(self):
        ahead = prefetch(itertools.count(), depth=2)
        assert next(ahead) == 0
        assert prefetch_threads()
        ahead.close()
        assert not prefetch_threads()

    def test_a_consumer_that_fails_or_forgets_leaves_no_thread(self):
        with pytest.raises(ZeroDivisionError):
            sum(1 / (item - 2) for item in prefetch(itertools.count()))
        forgotten = prefetch(itertools.count())
        next(forgotten)
        del forgotten

    def test_an_unused_one_never_starts(self):
        prefetch(itertools.count())
        assert not prefetch_threads()


def test_what_is_learnt_of_a_conversation_is_what_the_assistant_says(tmp_path):
    """From conversation to targets through the real tokenizer and renderer: tool output, questions
    and padding are not trained on.
    """
    text = "What is the capital of France? Paris. How much is 12 times 3? It is 36. " * 50
    tokenizer = train_tokenizer(iter([text] * 5), TokenizerConfig(vocab_size=300))
    tool = Conversation(
        (
            Message.of("user", "How much is 12 times 3?"),
            Message(
                "assistant",
                (
                    Part("text", "It is "),
                    Part("python", "12*3"),
                    Part("output", "36"),
                    Part("text", "36."),
                ),
            ),
        )
    )
    examples = [Conversation.of("What is the capital of France?", "Paris."), tool]
    shards = write_conversation_shards(
        tmp_path / "s",
        Mapped(examples, partial(render, tokenizer)),
        tokenizer.vocab_size,
        fingerprint="x",
    )
    step = next(
        ConversationBatches(
            shards, 2, 1, bos=tokenizer.bos, seed=0, max_tokens=512, pad_to_multiple_of=32
        ).steps()
    )
    said = {
        tokenizer.decode(targets[targets != IGNORE])
        for micro in step.micro_batches
        for targets in micro.targets
    }
    assert said == {
        "Paris.<|assistant_end|>",
        "It is <|python_start|>12*3<|python_end|>36.<|assistant_end|>",
    }
    rendered = sorted((render(tokenizer, example).ids[:-1] for example in examples), key=len)
    assert [
        micro.inputs[0, : len(ids)].tolist()
        for micro, ids in zip(step.micro_batches, rendered, strict=True)
    ] == rendered
