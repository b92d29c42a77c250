"""Whatever a schema asks for, an answer that ends by itself is an instance of it (an independent
validator says so), its neighbors do not notice, and no schema takes the engine with it.
"""

import functools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Any

import jsonschema_rs
import pytest
import torch

from chatling.errors import ChatlingError
from chatling.inference.engine import Completion, Engine, Request, SamplingParams
from chatling.inference.grammar import NARROWER, matcher, vocabulary
from chatling.inference.request import RequestState
from chatling.inference.structured_outputs import MAX_SCHEMA, StructuredOutputsParams
from chatling.model.gpt import GPT
from chatling.tokenizer.bpe import Tokenizer

PROMPT = (1, 2, 3)
# a random model fills its answer with blanks; what is asked here does not depend on how many
FORMATS = (
    "date",
    "time",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
)
FEW_BLANKS = ((ord(" "), -4.0), (ord("\n"), -4.0))
ANY_OBJECT = StructuredOutputsParams(json_object=True)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "the"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture
def engine(make_model: Callable[..., GPT], tokenizer: Tokenizer) -> Engine:
    return Engine(make_model(context=512), tokenizer, max_batch_size=8)


def following(schema: Any, seed: int = 0, **options: Any) -> Request:
    form = (
        schema
        if isinstance(schema, StructuredOutputsParams)
        else StructuredOutputsParams(json=schema)
    )
    sampling = SamplingParams(
        seed=seed, structured_outputs=form, max_tokens=150, logit_bias=FEW_BLANKS
    )
    return Request(PROMPT, replace(sampling, **options))


def schema_of(random: Random, depth: int = 0) -> dict[str, Any]:
    """A schema of any of the kinds that can be followed, deeper ones less often."""
    leaves: list[Callable[[], dict[str, Any]]] = [
        lambda: {"type": random.choice(["boolean", "null"])},
        lambda: {"type": ["integer", "null"], "minimum": -9, "maximum": random.randint(0, 2000)},
        lambda: {"type": "integer", "exclusiveMinimum": 3, "multipleOf": random.randint(2, 9)},
        lambda: {"type": "number", "minimum": -1.5, "maximum": random.choice([0, 2.25, 99])},
        lambda: {"type": "string", "minLength": random.randint(0, 3), "maxLength": 6},
        lambda: {
            "type": "string",
            "pattern": random.choice(["^[a-c]{2,5}$", "^(ä|日)+x$", "^a|b$"]),
        },
        lambda: {"type": "string", "format": random.choice(FORMATS)},
        lambda: {"enum": random.sample(["the", "äöü", '"\\\n', 3, -1.5, None, True, [1], {}], 3)},
        lambda: {"const": random.choice(["END", 17, {"a": [1, "the"]}])},
        lambda: {"anyOf": [{"type": "null"}, {"const": "an"}, {"type": "boolean"}]},
    ]
    nodes = [_object, _object, _array, _tuple, _either, _tree, _both]
    if depth < 3 and random.random() < 0.9 - 0.3 * depth:
        return random.choice(nodes)(random, depth + 1)
    return random.choice(leaves)()


def _object(random: Random, depth: int) -> dict[str, Any]:
    names = random.sample(["a", "b", "the", "日本", 'q"', "", "long name"], random.randint(0, 4))
    more: Any = random.choice([False, False, True, {"type": "boolean"}])
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: schema_of(random, depth) for name in names},
        "required": [name for name in names if random.random() < 0.7],
        "additionalProperties": more,
    }
    if random.random() < 0.3:
        found["patternProperties"] = {"^x[0-9]$": {"type": "integer", "maximum": 5}}
    if random.random() < 0.3:
        found |= {"minProperties": len(found["required"]), "maxProperties": len(names) + 1}
    return found


def _array(random: Random, depth: int) -> dict[str, Any]:
    least = random.randint(0, 2)
    most = least + random.randint(0, 2)
    return {
        "type": "array",
        "items": schema_of(random, depth),
        "minItems": least,
        "maxItems": most,
    }


def _tuple(random: Random, depth: int) -> dict[str, Any]:
    items = [schema_of(random, depth) for _ in range(random.randint(1, 3))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": 1}


def _either(random: Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [schema_of(random, depth) for _ in range(random.randint(1, 3))]}


def _tree(random: Random, depth: int) -> dict[str, Any]:
    if depth > 1:  # definitions stand at the root
        return _array(random, depth)
    node = _object(random, depth) | {"additionalProperties": False}
    children = {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1}
    node["properties"] |= {"children": children}
    return {"$defs": {"node": node}, "$ref": "#/$defs/node"}


def _both(random: Random, depth: int) -> dict[str, Any]:
    one = {"type": "object", "properties": {"a": schema_of(random, depth)}, "required": ["a"]}
    other = {"type": "object", "properties": {"b": {"type": "boolean"}}, "maxProperties": 3}
    return {"allOf": [one, other]}


def validate(schema: dict[str, Any], text: str) -> None:
    """Raises where the text is no instance of the schema."""
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(json.loads(text))


def prepare(engine: Engine, request: Request) -> RequestState | None:
    """None for what cannot be satisfied, such as two alternatives of which neither is possible."""
    try:
        return engine.prepare(request)
    except ChatlingError:
        return None


def check(engine: Engine, count: int, seed: int) -> tuple[int, int]:
    """Answers of so many schemas, every third batch beside neighbors without one; returns how many
    ended by themselves, and how many schemas there were that can be satisfied.
    """
    random = Random(seed)
    schemas = [schema_of(random) for _ in range(count)]
    plain = [Request((5, at % 200), SamplingParams(seed=at, max_tokens=40)) for at in range(4)]
    alone = [engine.generate([request])[0] for request in plain]
    stopped = possible = 0
    requests = [following(schema, seed) for seed, schema in enumerate(schemas)]
    with ThreadPoolExecutor(4) as threads:  # each schema is compiled in a process of its own
        prepared = list(threads.map(functools.partial(prepare, engine), requests))
    kept = [(schema, state) for schema, state in zip(schemas, prepared, strict=True) if state]
    for at in range(0, len(kept), 4):
        some = kept[at : at + 4]
        beside = [] if at % 12 else plain
        answers = engine.generate([*(state for _, state in some), *beside])
        assert answers[len(some) :] == alone[: len(beside)]
        for (schema, _), answer in zip(some, answers, strict=False):
            possible += 1
            assert answer.finish_reason in ("stop", "length")
            assert not any(token in engine.tokenizer.specials for token in answer.ids)
            if answer.finish_reason == "stop":
                stopped += 1
                validate(schema, answer.text)
    return stopped, possible


SIXES = ((ord("6"), 2.0), (ord('"'), 2.0), *FEW_BLANKS)


@pytest.mark.parametrize("name", NARROWER)
def test_formats_are_what_validators_take(engine: Engine, name: str) -> None:
    """No leap second, say."""
    schema = {"type": ["string", "null"], "format": name, "maxLength": 60}
    answers = engine.generate([following(schema, seed, logit_bias=SIXES) for seed in range(24)])
    whole = [answer.text for answer in answers if answer.finish_reason == "stop"]
    assert len(whole) > 5
    for text in whole:
        validate(schema, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("email", "a@{x}.org"),
        ("email", "{x}@a.org"),
        ("email", "a@b-{x}.org"),
        ("hostname", "{x}"),
        ("hostname", "a.{x}"),
        ("hostname", "a.{x}-c.org"),
    ],
)
def test_no_part_of_a_host_is_longer_than_validators_take(name: str, text: str) -> None:
    """Random answers seldom get that long."""
    schema = json.dumps({"type": "string", "format": name})
    tokens = vocabulary([bytes([byte]) for byte in range(256)], ["<|end|>"], [256])
    for length, taken in ((25, True), (90, False)):
        answer = json.dumps(text.format(x="x" * length)).encode()
        assert (matcher(tokens, schema).validate_tokens(list(answer)) == len(answer)) is taken


def test_answers_follow_their_schema_and_neighbors_keep_their_bits(engine: Engine) -> None:
    stopped, possible = check(engine, 12, seed=1)
    assert possible > 6
    assert stopped > possible // 2


@pytest.mark.slow
def test_answers_of_many_schemas(engine: Engine) -> None:
    stopped, possible = check(engine, 600, seed=2)
    print(f"{possible} schemas of 600 can be compiled; {stopped} answers ended by themselves")
    assert possible > 350
    assert stopped > possible // 2


def test_any_object_and_an_answer_cut_off(engine: Engine) -> None:
    answers = engine.generate([following(ANY_OBJECT, seed) for seed in range(4)])
    whole = [answer for answer in answers if answer.finish_reason == "stop"]
    assert whole
    assert all(isinstance(json.loads(answer.text), dict) for answer in whole)
    (cut,) = engine.generate([following(ANY_OBJECT, max_tokens=1)])
    assert (cut.text, cut.finish_reason) == ("{", "length")
    with pytest.raises(json.JSONDecodeError):
        json.loads(cut.text)


def test_a_stream_says_the_same(engine: Engine) -> None:
    request = following(PERSON)
    events = list(engine.stream(request))
    (whole,) = engine.generate([request])
    assert "".join(event.text for event in events) == whole.text
    validate(PERSON, whole.text)


def test_white_space_ends(engine: Engine, tokenizer: Tokenizer) -> None:
    blank = tuple((token, 100.0) for token in tokenizer.encode(" \n"))
    (answer,) = engine.generate(
        [following(PERSON, logit_bias=blank, temperature=0, max_tokens=400)]
    )
    assert answer.finish_reason == "stop"
    validate(PERSON, answer.text)


def test_special_tokens_cannot_come(engine: Engine, tokenizer: Tokenizer) -> None:
    wanted = tuple((token, 100.0) for token in tokenizer.specials)
    (answer,) = engine.generate([following(PERSON, logit_bias=wanted)])
    validate(PERSON, answer.text)
    assert not any(answer.injected)
    assert not any(token in tokenizer.specials for token in answer.ids)
    assert answer.closing in (tokenizer.assistant_end, tokenizer.bos)


def test_log_probabilities_are_of_what_is_allowed(engine: Engine) -> None:
    schema = {"type": "boolean"}
    events = list(engine.stream(following(schema, top_logprobs=20)))
    first = events[0]
    assert first.token in (ord("t"), ord("f"))
    logits = engine.model.logits(engine.model(torch.tensor([PROMPT])))[0, -1]
    t, f = logits[[ord("t"), ord("f")]].log_softmax(0).tolist()
    assert dict(first.top_logprobs) == pytest.approx({ord("t"): t, ord("f"): f}, abs=1e-4)
    assert first.logprob == pytest.approx(dict(first.top_logprobs)[first.token], abs=1e-6)
    assert [event.logprob for event in events[1:-1]] == [0.0] * len(events[1:-1])  # "rue", "alse"


def test_other_settings_act_on_what_is_allowed(engine: Engine) -> None:
    options: tuple[dict[str, Any], ...] = (
        {"temperature": 0.0},
        {"top_k": 1},
        {"top_p": 0.1, "min_p": 0.5},
        {"repetition_penalty": 5.0},
        {"temperature": 0.0, "repetition_penalty": 0.5},
    )
    for answer in engine.generate([following(PERSON, **each) for each in options]):
        assert answer.finish_reason == "stop"
        validate(PERSON, answer.text)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "frob"}, "Invalid type: frob"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "array", "uniqueItems": True, "x-guidance": {"lenient": True}}, "uniqueItems"),
        ({"type": "string", "pattern": "(a"}, "unclosed group"),
        ({"type": "string", "format": "frob"}, "Unknown format: frob"),
        ({"$ref": "https://example.com/schema"}, "does not fetch"),
        ({"$ref": "#"}, "no answer can satisfy it"),
        ({"enum": []}, "anyOf is empty"),
        ({"enum": ["\ud800"]}, "what JSON cannot"),
        ({"minimum": float("nan")}, "not JSON"),
        ({"type": "object", "minProperties": 2}, "minProperties"),
        ("[1]", "must be a JSON object"),
        ("{", "not JSON"),
        ({1: 2, "a": object()}, "not JSON"),
    ],
)
def test_what_cannot_be_followed_is_said(engine: Engine, schema: Any, said: str) -> None:
    with pytest.raises(ChatlingError, match="The schema ") as caught:
        engine.generate([following(schema)])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


HOSTILE: dict[str, Callable[[], Any]] = {
    "nested": lambda: nested(400),
    "nested far": lambda: nested(100_000),
    "nested text": lambda: '{"items":' * 3000 + "{}" + "}" * 3000,
    "huge": lambda: {"enum": list(range(MAX_SCHEMA))},
    "exponential": lambda: {
        "allOf": [
            {"anyOf": [{"properties": {f"p{i}": {"const": j}}} for j in range(9)]}
            for i in range(40)
        ]
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_in_time(engine: Engine, name: str) -> None:
    start = time.process_time()
    with pytest.raises(ChatlingError, match="The schema "):
        engine.generate([following(HOSTILE[name]())])
    assert time.process_time() - start < 2  # in this process: another one bears the work
    assert engine.generate([Request(PROMPT, SamplingParams(max_tokens=2))])[0].ids


def test_a_large_schema_that_is_meant(engine: Engine) -> None:
    fields = {f"field_{i}": {"type": "boolean"} for i in range(30)}
    schema = {"type": "object", "properties": fields, "required": ["field_7"]}
    assert engine.prepare(following(schema)).grammar is not None
    names = [f"a value of some length, number {i}" for i in range(500)]
    (answer,) = engine.generate([following({"enum": names})])
    assert json.loads(answer.text) in names


@pytest.mark.parametrize("options", [{}, {"json": {}, "json_object": True}])
def test_one_of_the_two_has_to_be_asked_for(options: dict[str, Any]) -> None:
    with pytest.raises(ChatlingError, match="either json or json_object"):
        StructuredOutputsParams(**options)


@pytest.mark.slow
def test_compiled(make_model: Callable[..., GPT], tokenizer: Tokenizer) -> None:
    """The compiled step is the same beside a constrained row, whose answer is right, too."""
    engine = Engine(make_model(), tokenizer, max_batch_size=4, compiled=True)
    plain = Request((5, 6), SamplingParams(max_tokens=40))
    (alone,) = engine.generate([plain])
    found: list[Completion] = engine.generate([following(PERSON), plain, following(PERSON, 1)])
    assert found[1] == alone
    for answer in (found[0], found[2]):
        if answer.finish_reason == "stop":
            validate(PERSON, answer.text)
    assert any(answer.finish_reason == "stop" for answer in (found[0], found[2]))
