"""Packing: exact, seeded, random access, nothing lost, nothing padded but the epoch's end."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.loaders import PretrainBatches
from chatling.data.packing import IGNORE, LongRows, PackedRows, best_fit
from chatling.data.shard_writer import write_token_shards
from chatling.data.shuffle import seeded_order
from chatling.data.token_shards import TokenShards
from chatling.errors import DataError

corpora = st.tuples(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(1, 24),
    st.integers(1, 30),
    st.integers(0, 2**40),
)


def packed(numbered, lengths, row_tokens, block, seed):
    shards = numbered(lengths)
    return PackedRows(shards, row_tokens, bos=shards.tokens, seed=seed, block_documents=block)


@settings(max_examples=150, deadline=None)
@given(corpora)
def test_every_token_is_in_exactly_one_row_of_the_right_form(numbered, corpus):
    lengths, row_tokens, block, seed = corpus
    rows = packed(numbered, lengths, row_tokens, block, seed)
    epoch = list(rows.rows(3))
    seen = np.concatenate(epoch)
    assert np.array_equal(
        np.sort(seen[(seen != rows.bos) & (seen != IGNORE)]), np.arange(sum(lengths))
    )
    assert all(
        row.shape == (row_tokens + 1,) and row.dtype == np.int32 and row[0] == rows.bos
        for row in epoch
    )
    assert all((row != IGNORE).all() for row in epoch[:-1])
    last = epoch[-1] == IGNORE
    assert (
        not last[: np.argmax(last)].any() if last.any() else True
    )  # padding stands at the end only
    assert last.sum() != 1  # one free place takes a lone bos
    assert rows.row_count == len(epoch)


@settings(max_examples=80, deadline=None)
@given(corpora)
def test_pieces_are_runs_of_one_document_behind_a_bos(numbered, corpus):
    lengths, row_tokens, block, seed = corpus
    rows = packed(numbered, lengths, row_tokens, block, seed)
    document = np.repeat(np.arange(len(lengths)), lengths)
    for row in rows.rows(0):
        for before, token in itertools.pairwise(row[row != IGNORE].tolist()):
            if before == rows.bos:
                assert token != rows.bos  # no empty piece but a lone bos at the end
            elif token != rows.bos:
                assert token == before + 1
                assert document[token] == document[before]


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(0, 3), st.integers(0, 70))
def test_random_access_equals_reading_in_order(numbered, corpus, epoch, start):
    lengths, row_tokens, block, seed = corpus
    in_order = list(packed(numbered, lengths, row_tokens, block, seed).rows(epoch))
    jumped = list(packed(numbered, lengths, row_tokens, block, seed).rows(epoch, start))
    assert len(jumped) == max(0, len(in_order) - start)
    assert all(np.array_equal(a, b) for a, b in zip(in_order[start:], jumped, strict=True))


@settings(max_examples=60, deadline=None)
@given(corpora)
def test_the_number_of_rows_does_not_depend_on_seed_or_epoch(numbered, corpus):
    lengths, row_tokens, block, seed = corpus
    counts = {
        sum(1 for _ in packed(numbered, lengths, row_tokens, block, s).refs(epoch))
        for s in (seed, seed + 1)
        for epoch in (0, 1)
    }
    assert len(counts) == 1


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=60), st.integers(1, 20))
def test_best_fit_follows_its_rule_as_a_plain_list_would(lengths, row_tokens):
    """The same rule by brute force over a list of lengths gives the same rows."""
    lengths = [min(length, row_tokens) for length in lengths]
    pool, expected, row, room = sorted(lengths), [], [], row_tokens
    while pool:
        fitting = [length for length in pool if length <= room]
        taken = max(fitting or pool)
        piece = min(taken, room)
        pool.remove(taken)
        if taken > piece:
            pool.append(taken - piece)
        row, room = [*row, piece], room - piece - 1
        if room <= 0:
            expected, row, room = [*expected, row], [], row_tokens
    starts = np.cumsum([0, *lengths])[:-1]
    plan, _, open_lengths = best_fit(starts, np.array(lengths, np.int64), row_tokens)
    assert [plan.lengths[a:b].tolist() for a, b in itertools.pairwise(plan.bounds)] == expected
    assert open_lengths.tolist() == row


def test_seeds_and_epochs_give_other_orders_and_the_same_call_the_same(numbered):
    lengths = np.random.default_rng(0).integers(1, 60, 400)

    def all_rows(seed, epoch):
        return np.concatenate(list(packed(numbered, lengths, 64, 100, seed).rows(epoch)))

    assert np.array_equal(all_rows(1, 0), all_rows(1, 0))
    assert not np.array_equal(all_rows(1, 0), all_rows(1, 1))
    assert not np.array_equal(all_rows(1, 0), all_rows(2, 0))


def test_documents_keep_other_company_in_each_epoch(numbered):
    lengths = np.random.default_rng(0).integers(1, 30, 500)

    def company(epoch):
        return {
            frozenset(start for start, _ in ref.pieces)
            for ref in packed(numbered, lengths, 64, 500, 1).refs(epoch)
        }

    assert len(company(0) & company(1)) < 0.1 * len(company(0))


def test_rows_of_a_block_are_stationary(numbered):
    """Best fit places the longest first; the seeded orders put long and short documents early and
    late, in rows and in the block.
    """
    lengths = np.random.default_rng(1).integers(1, 60, 4000)
    refs = list(packed(numbered, lengths, 128, 4000, 5).refs(0))
    halves = refs[: len(refs) // 2], refs[len(refs) // 2 :]
    early, late = (np.mean([length for ref in half for _, length in ref.pieces]) for half in halves)
    assert abs(early - late) < 2
    firsts, lasts = [ref.pieces[0][1] for ref in refs], [ref.pieces[-1][1] for ref in refs]
    assert abs(np.mean(firsts) - np.mean(lasts)) < 2


def test_few_documents_are_split(numbered):
    """Best fit keeps documents whole: end-to-end packing would split nearly every row's last
    document.
    """
    lengths = np.random.default_rng(2).integers(5, 400, 5000)
    refs = list(packed(numbered, lengths, 2048, 5000, 0).refs(0))
    pieces = Counter(start for ref in refs for start, _ in ref.pieces)
    assert max(pieces.values()) == 1
    assert len(pieces) - len(lengths) < 0.05 * len(refs)


def test_seeded_orders_are_fixed_for_good():
    """A change here would change every training run: numpy promises the raw stream, and so do
    we.
    """
    assert seeded_order(8, 42, 0, 7).tolist() == [3, 2, 1, 7, 0, 6, 4, 5]
    assert sorted(seeded_order(1000, 3).tolist()) == list(range(1000))
    assert seeded_order(0, 1).tolist() == []


def test_an_empty_corpus_is_refused():
    with pytest.raises(DataError, match="empty"):
        PackedRows(TokenShards([], np.zeros(1, np.int64), 10), 8, 0, 0)


@pytest.mark.parametrize("world", [1, 3])
def test_every_token_of_real_text_is_learnt_exactly_once_an_epoch(
    data_pack, tmp_path, tokenizer, world
):
    """Counted over what the ranks are given: each token of each document is a target as often as it
    is in the corpus.
    """
    files = sorted((data_pack / "pretrain_zh").glob("*.parquet"))
    shards = write_token_shards(tmp_path / "shards", files, tokenizer)
    rows = PackedRows(shards, 512, tokenizer.bos, seed=11, block_documents=200)
    ranks = [PretrainBatches(rows, 12, 2, rank, world).steps() for rank in range(world)]
    loss_mask = np.zeros(257, np.int64)
    left = rows.row_count
    while left > 0:
        steps = [next(rank) for rank in ranks]
        # back to the order of rows: rank r holds rows r, r + world, …
        targets = np.stack(
            [np.concatenate([micro.targets for micro in step.micro_batches]) for step in steps],
            axis=1,
        ).reshape(12, 512)[:left]
        loss_mask += np.bincount(targets[targets != IGNORE], minlength=257)
        left -= 12
    corpus = np.bincount(
        np.concatenate([shards.document(i) for i in range(shards.documents)]), minlength=257
    )
    assert np.array_equal(loss_mask[:256], corpus[:256])
    assert corpus.sum() == shards.tokens > 1_000_000


@settings(max_examples=60, deadline=None)
@given(corpora, st.integers(1, 12), st.sampled_from([0.2, 1 / 3, 0.7]))
def test_long_documents_have_their_share_and_are_whole(numbered, corpus, long_from, share):
    lengths, row_tokens, block, seed = corpus
    shards = numbered(lengths)
    rows = LongRows(
        shards, row_tokens, shards.tokens, seed, block, long_from=long_from, share=share
    )
    document, whole = np.repeat(np.arange(len(lengths)), lengths), 0
    for row in rows.rows(0):
        held = row[(row != rows.bos) & (row != IGNORE)]
        pieces = Counter(document[held].tolist()).items()
        whole += sum(size for each, size in pieces if size == lengths[each] >= long_from)
        assert not (np.diff((row == IGNORE).astype(int)) < 0).any()  # padding is at the end only
    seen = np.concatenate(list(rows.rows(0)))
    tokens = seen[(seen != rows.bos) & (seen != IGNORE)]
    assert len(np.unique(tokens)) == len(tokens)  # none twice
    long = sum(length for length in lengths if long_from <= length <= row_tokens)
    if block >= len(lengths) and max(lengths) <= row_tokens:
        # exact but for the one document that would be too much
        assert whole >= min(long, share * len(tokens)) - max(lengths)
        if long > share * sum(lengths) or not long:
            assert len(tokens) == sum(lengths)
        else:
            assert abs(long - share * len(tokens)) <= max(lengths)


def test_long_rows_are_the_same_from_any_place_and_full(numbered):
    shards = numbered([3, 30, 5, 17, 2, 9, 25, 4, 8, 31] * 8)
    rows = LongRows(shards, 32, shards.tokens, 7, long_from=16, share=0.4)
    whole = list(rows.rows(2))
    assert all(np.array_equal(a, b) for a, b in zip(whole[3:], rows.rows(2, 3), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(whole, rows.rows(3), strict=False))
    assert sum((row == IGNORE).any() for row in whole) <= 1
