"""The engine: a request's answer is its own, whatever else runs; refill, limits, errors."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from chatling.errors import ChatlingError, MachineError
from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.inference.model_runner import in_dtype
from chatling.inference.request import RequestState
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer

Make = Callable[..., GPT]


def some_requests(count: int, vocab_size: int, seed: int = 0) -> list[Request]:
    draw = random.Random(seed)
    settings: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {},
        {"top_k": 5},
        {"top_p": 0.7, "temperature": 1.3},
    ]
    settings += [{"top_k": 10**6}, {"top_k": 8, "top_p": 0.5}]
    return [
        Request(
            tuple(
                draw.randrange(vocab_size)
                for _ in range(draw.choice([1, 3, 20, 31, 32, 33, 64, 90]))
            ),
            SamplingParams(
                **draw.choice(settings),
                seed=draw.randrange(10**12),
                max_tokens=draw.choice([1, 2, 10, 60]),
            ),
        )
        for _ in range(count)
    ]


def said(completions: Sequence[Completion]) -> list[tuple[list[int], str | None]]:
    return [(completion.ids, completion.finish_reason) for completion in completions]


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


# With more threads than one, which thread takes a row must not show in its last bits either.
@pytest.mark.parametrize(
    ("threads", "preset", "dtype"),
    [
        (1, "classic", torch.float32),
        (1, "modern", torch.float32),
        pytest.param(2, "classic", torch.float32, marks=pytest.mark.slow),
        pytest.param(2, "modern", torch.float32, marks=pytest.mark.slow),
        pytest.param(1, "modern", torch.bfloat16, marks=pytest.mark.slow),
        pytest.param(2, "modern", torch.bfloat16, marks=pytest.mark.slow),
    ],
    indirect=["threads"],
)
def test_batched_equals_single(
    make_model: Make, tokenizer: Tokenizer, threads: None, preset: str, dtype: torch.dtype
) -> None:
    engine = Engine(make_model(preset), tokenizer, max_batch_size=4, dtype=dtype)
    requests = some_requests(24, tokenizer.vocab_size)
    together = engine.generate(requests)
    alone = [engine.generate([request])[0] for request in requests]
    assert said(together) == said(alone)
    assert [c.logprobs for c in together] == [c.logprobs for c in alone]
    order = random.Random(1).sample(range(24), 24)
    assert said(engine.generate([requests[i] for i in order])) == said([together[i] for i in order])
    assert not engine.busy


class Watched:
    """Counts what an engine's model is asked to read."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch):
        self.blocks: list[list[tuple[RequestState, int]]] = []
        read = engine._read

        def counted(plan: list[tuple[RequestState, int]]) -> Any:
            self.blocks.append(plan)
            return read(plan)

        monkeypatch.setattr(engine, "_read", counted)

    def count(self) -> int:
        return sum(len(plan) for plan in self.blocks)


def test_a_group_reads_its_prompt_once_and_a_turn_its_history_never_again(
    make_model: Make, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("modern")
    engine, other = (
        Engine(model, tokenizer, max_batch_size=8),
        Engine(model, tokenizer, max_batch_size=8),
    )
    watched = Watched(engine, monkeypatch)
    draw = random.Random(3)
    prompt = tuple(draw.randrange(200) for _ in range(75))  # two whole blocks and a piece
    group = [Request(prompt, SamplingParams(seed=seed, max_tokens=8)) for seed in range(20)]
    answers = engine.generate(group)
    assert watched.count() == 3
    assert said(answers) == said([other.generate([request])[0] for request in group])
    longer = Request((*prompt, *answers[3].ids, *range(20)), SamplingParams(seed=4, max_tokens=8))
    branch = Request((*prompt[:40], 7), SamplingParams(seed=4, max_tokens=8))
    for request, blocks in ((longer, 2), (branch, 1), (group[5], 0), (longer, 0)):
        watched.blocks.clear()
        assert said(engine.generate([request])) == said(
            Engine(model, tokenizer, max_batch_size=8).generate([request])
        )
        assert watched.count() == blocks
    engine.load_weights(make_model("modern", seed=5))
    engine.generate([longer])
    assert watched.count() == 4


def test_a_long_prompt_does_not_stall_the_others(make_model: Make, tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(context=1500), tokenizer, max_batch_size=4)
    talking = engine.submit(
        Request(
            (1, 2),
            SamplingParams(seed=1, max_tokens=200, logit_bias=((tokenizer.assistant_end, -100.0),)),
        )
    )
    engine.step()
    long = engine.submit(Request(tuple(i % 250 for i in range(1300)), SamplingParams(max_tokens=2)))
    short = engine.submit(Request((5, 6, 7), SamplingParams(max_tokens=2)))
    steps = 0
    while not long.completion.ids:
        before = len(talking.completion.ids)
        engine.step()
        steps += 1
        assert len(talking.completion.ids) == before + 1
        assert short.completion.ids or steps < 3
    assert steps > 8
    engine.cancel(talking)
    while engine.busy:
        engine.step()


def test_an_unchosen_width_is_one_that_differs(
    make_model: Make, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(make_model(), tokenizer, max_batch_size=16)
    run = engine.runner.decode

    def unlike(state: Sequence[tuple[int, int, int, int]], longest: int) -> Any:
        logits, summary = run(state, longest)
        return logits * (1 + 1e-6 * (len(state) == 4)), summary

    monkeypatch.setattr(engine.runner, "decode", unlike)
    assert engine.runner.widths in ([8, 16], [16])


@pytest.mark.slow
def test_compiled(make_model: Make, tokenizer: Tokenizer) -> None:
    """Close to the eager engine, the same alone and in company, and with new weights what a new
    engine says.
    """
    model, new = make_model("modern", context=300), make_model("modern", context=300, seed=1)
    engine, plain = (
        Engine(model, tokenizer, max_batch_size=8, compiled=compiled) for compiled in (True, False)
    )
    requests = some_requests(30, tokenizer.vocab_size)
    requests.append(Request(tuple(range(100)), SamplingParams(0, max_tokens=190)))
    engine.build()
    together, expected = engine.generate(requests), plain.generate(requests)
    assert said([engine.generate([request])[0] for request in requests]) == said(together)
    for mine, theirs in zip(together, expected, strict=True):
        same = next(
            (i for i, (a, b) in enumerate(zip(mine.ids, theirs.ids, strict=False)) if a != b),
            len(mine.ids),
        )
        assert mine.logprobs[:same] == pytest.approx(theirs.logprobs[:same], abs=1e-4)
    assert (
        sum(mine.ids == theirs.ids for mine, theirs in zip(together, expected, strict=True)) >= 30
    )
    engine.load_weights(new)
    plain.load_weights(new)
    second, expected = engine.generate(requests[:10]), plain.generate(requests[:10])
    begun = [
        (mine, theirs)
        for mine, theirs in zip(second, expected, strict=True)
        if mine.ids[:1] == theirs.ids[:1] != []
    ]
    assert len(begun) >= 7
    for mine, theirs in begun:
        assert mine.logprobs[0] == pytest.approx(theirs.logprobs[0], abs=1e-4)
    assert said(second) == said(expected)


def test_greedy_equals_the_model_without_cache(make_model: Make, tokenizer: Tokenizer) -> None:
    model = make_model("modern")
    engine = Engine(model, tokenizer, max_batch_size=3)
    prompts = [tuple(range(5)), tuple(range(40, 110)), (7,)]
    completions = engine.generate(
        [Request(prompt, SamplingParams(temperature=0.0, max_tokens=20)) for prompt in prompts]
    )
    for prompt, completion in zip(prompts, completions, strict=True):
        ids = list(prompt)
        for token, logprob in zip(completion.ids, completion.logprobs, strict=True):
            with torch.no_grad():
                logits = model.logits(model(torch.tensor([ids])))[0, -1]
            assert token == int(logits.argmax())
            assert logprob == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-4)
            ids.append(token)


def test_seed_decides(make_model: Make, tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer, max_batch_size=2)
    answers = engine.generate(
        [Request((1, 2, 3), SamplingParams(seed=seed, max_tokens=30)) for seed in (5, 5, 6)]
    )
    assert answers[0].ids == answers[1].ids != answers[2].ids


def test_context_ends_an_answer_and_bounds_a_prompt(make_model: Make, tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(context=40), tokenizer, max_batch_size=2)
    for length in (39, 40):
        completion = engine.generate(
            [Request((3,) * length, SamplingParams(seed=1, max_tokens=100))]
        )[0]
        assert len(completion.ids) == 41 - length  # the last token need not be read
        assert completion.finish_reason == "length"
    with pytest.raises(ChatlingError, match=r"41 tokens.* 40"):
        engine.generate([Request((3,), SamplingParams(max_tokens=2)), Request((3,) * 41)])
    assert not engine.busy
    with pytest.raises(ChatlingError, match="empty"):
        engine.submit(Request(()))
    with pytest.raises(ChatlingError, match="vocabulary"):
        engine.submit(Request((10**6,)))


def test_cancel_frees_the_row(make_model: Make, tokenizer: Tokenizer) -> None:
    engine = Engine(make_model(), tokenizer, max_batch_size=1)
    request = Request((1, 2), SamplingParams(seed=3, max_tokens=20))
    whole = engine.generate([request])[0]
    stream = engine.stream(request)
    first = [next(stream).token for _ in range(5)]
    waiting = engine.submit(request)
    stream.close()
    assert first == whole.ids[:5]
    while waiting.completion.finish_reason is None:
        engine.step()
    assert waiting.completion.ids == whole.ids
    engine.cancel(waiting)
    assert waiting.completion.finish_reason == whole.finish_reason
    running = engine.submit(request)
    queued = engine.submit(request)
    engine.step()
    engine.cancel(queued)
    engine.cancel(running)
    assert (running.completion.finish_reason, queued.completion.finish_reason) == (
        "cancelled",
        "cancelled",
    )
    assert not engine.busy


def test_weights_are_cast_once_and_the_model_is_left_alone(
    make_model: Make, tokenizer: Tokenizer
) -> None:
    model = make_model("modern")
    twin = in_dtype(model, torch.bfloat16)
    assert {p.dtype for p in twin.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert twin.cos.dtype == torch.float32
    same = in_dtype(model, torch.float32)
    assert torch.equal(same.lm_head.weight, model.lm_head.weight)
    assert same.layers[0].mlp.fc2.weight.data_ptr() == model.layers[0].mlp.fc2.weight.data_ptr()
    assert model.lm_head.weight.requires_grad
    assert not same.lm_head.weight.requires_grad
    ids = torch.arange(20)[None]
    with torch.no_grad():
        close = torch.nn.functional.cosine_similarity(
            twin(ids).float().flatten(), model(ids).flatten(), dim=0
        )
    assert close > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_load_weights(make_model: Make, tokenizer: Tokenizer, dtype: torch.dtype) -> None:
    old, new = make_model("modern", seed=1), make_model("modern", seed=2)
    engine, fresh = (
        Engine(model, tokenizer, max_batch_size=2, dtype=dtype) for model in (old, new)
    )
    requests = some_requests(6, tokenizer.vocab_size)
    before = engine.generate(requests)
    engine.load_weights(new)
    assert said(engine.generate(requests)) == said(fresh.generate(requests)) != said(before)
    engine.submit(requests[0])
    with pytest.raises(ChatlingError, match="requests run"):
        engine.load_weights(old)


def test_alternatives_and_the_prompts_own_scores(make_model: Make, tokenizer: Tokenizer) -> None:
    model, prompt = make_model(), tuple(range(60, 100))
    engine = Engine(model, tokenizer, max_batch_size=2)
    request = Request(
        prompt,
        SamplingParams(
            seed=3, max_tokens=5, top_logprobs=3, logit_bias=((tokenizer.assistant_end, -100.0),)
        ),
        echo=True,
    )
    other = engine.submit(Request((1,), SamplingParams(seed=2)))
    events = list(engine.stream(request))
    engine.cancel(other)
    done = engine.generate([request])[0]
    with torch.no_grad():
        expected = model.logits(model(torch.tensor([[*prompt, *done.ids]])))[0].log_softmax(-1)
    tokens, logprobs = (*prompt, *done.ids)[1:], (*done.prompt_logprobs, *done.logprobs)
    assert logprobs == pytest.approx(
        [float(row[token]) for row, token in zip(expected, tokens, strict=False)], abs=1e-4
    )
    for row, some in zip(
        expected,
        [*done.prompt_top_logprobs, *[event.top_logprobs for event in events]],
        strict=False,
    ):
        logprobs, ids = row.topk(3)
        assert [token for token, _ in some] == ids.tolist()
        assert [chance for _, chance in some] == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_a_cache_beyond_the_memory_is_refused(make_model: Make, tokenizer: Tokenizer) -> None:
    with pytest.raises(MachineError, match=r"GB.*at most \d+ at once"):
        Engine(make_model(), tokenizer, max_batch_size=10**9)


def test_another_tokenizer_is_refused(make_model: Make) -> None:
    with pytest.raises(ChatlingError, match="tokens"):
        Engine(make_model(), Tokenizer([bytes([byte]) for byte in range(256)], digits=2))
