"""Conversation shapes: what is written in any of them is read back as it was; what is no
conversation is refused.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.data.chat_formats import parse_conversation
from chatling.data.preferences import Preference
from chatling.errors import DataError
from chatling.messages import Conversation, Message, Part

said = st.text(min_size=1, max_size=40).filter(str.strip)
parts = st.lists(
    st.builds(Part, st.sampled_from(["text", "python", "output"]), said), min_size=1, max_size=4
)
plain = said.map(lambda text: (Part("text", text),))
answers = st.one_of(plain, parts.map(tuple))
KEYS = [
    "messages",
    "conversations",
    "role",
    "content",
    "from",
    "value",
    "instruction",
    "output",
    "history",
]


@st.composite
def talks(draw, answer=plain, turns=3):
    messages = [Message.of("system", draw(said))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, turns))):
        messages += [Message.of("user", draw(said)), Message("assistant", draw(answer))]
    return Conversation(tuple(messages))


@given(talks(answer=answers))
def test_messages_come_back_as_they_were(talk):
    row = json.loads(json.dumps(talk.to_dict()))
    assert parse_conversation(row) == talk


@given(
    talks(),
    st.sampled_from(["human", "user", "Human"]),
    st.sampled_from(["gpt", "assistant", "chatgpt"]),
    st.booleans(),
)
def test_sharegpt_comes_back_as_it_was(talk, human, machine, system_beside):
    names = {"system": "system", "user": human, "assistant": machine}
    turns = [{"from": names[message.role], "value": message.text} for message in talk.messages]
    row = {"id": "7", "conversations": turns}
    if system_beside and turns[0]["from"] == "system":
        row = {"system": turns.pop(0)["value"], "conversations": turns}
    assert parse_conversation(row) == talk


@given(talks(), st.sampled_from([None, "", " "]))
def test_alpaca_comes_back_as_it_was(talk, no_input):
    texts = [message.text for message in talk.messages if message.role != "system"]
    row = {
        "instruction": texts[-2],
        "output": texts[-1],
        "input": no_input,
        "history": [list(texts[i : i + 2]) for i in range(0, len(texts) - 2, 2)],
    }
    if talk.messages[0].role == "system":
        row["system"] = talk.messages[0].text
    assert parse_conversation(row) == talk


@given(said, said, said)
def test_alpacas_input_stands_below_its_instruction(instruction, given_text, output):
    row = {"instruction": instruction, "input": given_text, "output": output}
    assert parse_conversation(row) == Conversation.of(f"{instruction}\n\n{given_text}", output)


@given(talks(), said)
def test_a_question_that_nothing_answers_is_left_out(talk, question):
    row = talk.to_dict()
    row["messages"].append({"role": "user", "content": question})
    assert parse_conversation(row) == talk


def test_an_empty_system_message_says_nothing():
    row = {
        "messages": [
            {"role": "system", "content": ""},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
        ]
    }
    assert parse_conversation(row) == Conversation.of("Hi", "Hello")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "once upon a time"}, "no conversation"),
        ({"messages": []}, "no conversation"),
        ({"messages": "hello"}, "no conversation"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "wizard", "content": "b"}]},
            "from 'wizard'",
        ),
        ({"messages": [{"role": "user", "content": "a"}, "b"]}, "a turn is 'b'"),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "user", "content": "b"},
                    {"role": "assistant", "content": "c"},
                ]
            },
            "expected",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
            "expected 'user'",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "  "},
                ]
            },
            "empty assistant",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": None},
                    {"role": "assistant", "content": "b"},
                ]
            },
            "needs content",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image"}]},
                    {"role": "assistant", "content": "b"},
                ]
            },
            "type and a text",
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}]},
            "empty assistant",
        ),
        ({"conversations": [{"from": "human", "value": "a"}]}, "no user message"),
        ({"instruction": "a", "output": ""}, "empty assistant"),
        ({"instruction": "a", "output": "b", "history": [["c"]]}, "history"),
    ],
)
def test_what_is_no_proper_conversation_is_refused(row, said):
    with pytest.raises(DataError, match=said):
        parse_conversation(row)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
def test_any_row_is_a_conversation_or_a_sentence(row):
    try:
        talk = parse_conversation(row)
    except DataError:
        return
    assert talk.messages[-1].role == "assistant"


DEEP: list = []
for _ in range(3000):
    DEEP = [DEEP]
TURNS: dict = {"human": "a", "assistant": "b"}
for _ in range(600):
    TURNS = {"human": [{"role": "user", "content": "x"}, TURNS], "assistant": "b"}
ODD = [
    None,
    True,
    0,
    10**6000,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\ud800",
    "[",
    "[{'role': 1}]",
    [],
    [[]],
    [None],
    ["a", "b"],
    [1],
    {},
    {"a": 1},
    {"role": "user"},
    {"role": [], "content": {}},
    {"from": "human", "value": "q"},
    {"text": [1]},
    {"type": ["x"], "text": "t"},
    DEEP,
    [TURNS],
    {"content": DEEP, "role": "user"},
]
SAID = [
    {"role": "user", "content": "q"},
    {
        "role": "assistant",
        "content": [{"type": "python", "text": "1"}, {"type": "text", "text": "a"}],
    },
]
ROWS = [
    SAID,
    {"messages": [{"role": "system", "content": "s"}, *SAID]},
    {
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
        "system": "s",
    },
    {"instruction": "q", "input": "c", "output": "a", "history": [["q", "a"]], "system": "s"},
    {"question": "q", "answers": {"text": ["a"], "answer_start": [1]}},
    {"conversation": [{"human": "q", "assistant": "a"}]},
    {"prompt": [SAID[0]], "completion": [SAID[1]]},
    {
        "prompt": "q",
        "chosen": "a",
        "rejected": "b",
        "system": "s",
        "score_chosen": 1,
        "score_rejected": 2,
    },
    {"prompt": [SAID[0]], "chosen": [SAID[1]], "rejected": {"role": "assistant", "content": "b"}},
    {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1},
    {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
]


def places(value, path=()):
    yield path
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in inside:
        yield from places(inner, (*path, key))


def put(value, path, other):
    if not path:
        return other
    changed = value.copy()
    changed[path[0]] = put(value[path[0]], path[1:], other)
    return changed


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
@pytest.mark.parametrize("read", [parse_conversation, Conversation.from_dict, Preference.from_row])
def test_any_value_in_any_place_gives_a_sentence_at_worst(read, row):
    for path in places(row):
        for odd in ODD:
            try:
                read(put(row, path, odd))
            except DataError as error:
                error.what.encode("utf-8")  # it can be printed


@given(values)
def test_any_value_is_read_or_refused(value):
    for read in (parse_conversation, Conversation.from_dict, Preference.from_row):
        try:
            read(value)
        except DataError:
            continue


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1], r"a list where an object .* is expected: \[1\]"),
        (None, "a null where an object"),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", "tool_calls": [1]},
                ]
            },
            "calls a tool",
        ),
        ({"question": "a", "answer": None}, "empty assistant"),
        ({"question": "a", "answer": {"b": 1}}, "its 'answer' holds an object, not a text"),
        ({"question": "a", "answer": float("nan")}, "empty assistant"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_of_its_own_names(row, said):
    with pytest.raises(DataError, match=said):
        parse_conversation(row)


def node(parent: str | None, *children: str, **message: object) -> dict[str, object]:
    return {"id": "x", "message": message or None, "parent": parent, "children": list(children)}


def test_the_newest_branch_of_an_exported_tree_is_read():
    """As ChatGPT exports conversations: answers that were made anew stand beside each other."""

    def said_by(role: str, *texts: object) -> dict[str, object]:
        return {
            "author": {"role": role},
            "content": {"content_type": "text", "parts": list(texts)},
            "metadata": {"is_visually_hidden_from_conversation": texts == ("hidden",)},
        }

    tree = {
        "c": node("b", **said_by("assistant", "An old answer.")),
        "b": node("s", "c", "d", **said_by("user", "Who?")),
        "r": node(None, "s"),
        "s": node("r", "b", **said_by("system", "")),
        "d": node("b", "e", **said_by("assistant", "A new", "answer.")),
        "e": node("d", "f", **said_by("user", "hidden")),
        "f": node("e", "g", **said_by("user", "More.")),
        "g": node("f", **said_by("assistant", "No.")),
    }
    expected = Conversation.of("Who?", "A new\nanswer.", "More.", "No.")
    assert parse_conversation({"title": "t", "mapping": tree, "current_node": "g"}) == expected
    for odd in (["b"], [{}], {}, 3):  # a circle ends, too
        tree["g"]["children"] = odd
        assert parse_conversation({"mapping": tree}) == expected
    tree["r"]["parent"] = []
    assert parse_conversation({"mapping": tree}) == expected
    tree["d"] |= {"message": said_by("assistant", {"asset_pointer": "file"})}
    with pytest.raises(DataError, match=r"a turn is .*asset_pointer.*, not a role and a text"):
        parse_conversation({"mapping": tree})
