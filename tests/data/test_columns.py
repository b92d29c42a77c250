"""Which columns are read: both sides of questions and answers in many languages, every shape of
JSON, and nothing left behind unsaid.
"""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.cli import main
from chatling.data.columns import iter_planned, left_behind, plan_file, plan_files, unused_prose
from chatling.data.row_errors import RowErrors
from chatling.errors import DataError
from chatling.messages import Conversation, Message, Part
from chatling.tasks.custom import JsonlConversations

Q, A, TALE = (
    "What is one and one, my friend?",
    "It is two, of course.",
    "Once upon a time there were geese that flew far away.",
)
TALK = Conversation.of(Q, A)
USER, SAID = {"role": "user", "content": Q}, {"role": "assistant", "content": A}
PAIRS = [
    ("question", "answer"),
    ("Prompt", "Response"),
    ("prompt", "completion"),
    ("Q", "A"),
    ("Frage", "Antwort"),
    ("问题", "答案"),
    ("input", "output"),
    ("user", "assistant"),
    ("instruction", "response"),
    ("Question ", "Réponse"),
    ("pregunta", "respuesta"),
    ("Pergunta", "Resposta"),
    ("domanda", "risposta"),
    ("Вопрос", "Ответ"),
    ("質問", "回答"),
    ("질문", "답변"),
    ("soru", "cevap"),
    ("vraag", "antwoord"),
    ("otázka", "odpověď"),
    ("câu hỏi", "câu trả lời"),
    ("السؤال", "الجواب"),
    ("User Message", "assistant-response"),
    ("Context", "Response"),
    ("input", "target"),
]
SHAPES = {
    "bare list": [USER, SAID],
    "JSON in a string": {"messages": json.dumps([USER, SAID])},
    "Python's list in a string": {"dialog": str([USER, SAID])},
    "JSON in JSON": {"messages": json.dumps(json.dumps([USER, SAID]))},
    "another name": {
        "id": 3,
        "my stuff": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}],
    },
    "LIMA": {"conversations": [Q, A], "source": "x"},
    "UltraChat": {"id": "3", "data": [Q, A]},
    "Firefly": {"conversation_id": 1, "conversation": [{"human": Q, "assistant": A}]},
    "Capybara": {"source": "x", "conversation": [{"input": Q, "output": A}]},
    "TRL": {"prompt": [USER], "completion": [SAID]},
    "SQuAD": {
        "id": "x",
        "question": Q,
        "context": "",
        "answers": {"text": [A, A], "answer_start": [3, 3]},
    },
    "WildChat": {
        "model": "m",
        "conversation": [USER | {"country": "US", "toxic": False}, SAID | {"country": None}],
        "turn": 1,
    },
}


def jsonl(path, rows):
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def read(path, **asked):
    plans = plan_files([path], **asked)
    return list(iter_planned(plans, RowErrors())), plans


@pytest.mark.parametrize(("question", "answer"), PAIRS)
def test_a_question_and_its_answer_are_known_in_many_languages(question, answer, tmp_path):
    found, plans = read(jsonl(tmp_path / "a.jsonl", [{"id": 1, question: Q, answer: A}] * 3))
    assert found == [TALK] * 3
    assert plans[0].used == (question, answer)
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows(
            [[question, f" {answer.upper()} "], *[[Q, A]] * 3]
        )
    assert read(tmp_path / "a.csv")[0] == [TALK] * 3


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_by_an_import_and_by_a_mixture(shape, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [SHAPES[shape]] * 3)
    assert read(path)[0] == [TALK] * 3
    assert list(JsonlConversations(path, "train")) == [TALK] * 2


def test_what_stands_beside_a_question_belongs_to_it(tmp_path):
    dolly = {"instruction": Q, "context": TALE, "response": A, "category": "open_qa"}
    assert read(jsonl(tmp_path / "a.jsonl", [dolly] * 3))[0][0] == Conversation.of(
        f"{Q}\n\n{TALE}", A
    )
    orca = {"id": "t.1", "system_prompt": "Be brief.", "question": Q, "response": A}
    assert read(jsonl(tmp_path / "b.jsonl", [orca] * 3))[0][0] == Conversation.of(
        Q, A, system="Be brief."
    )


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (2.5, "2.5"), (True, "true"), (10**30, str(10**30))]
)
def test_numbers_as_answers_become_text(value, text, tmp_path):
    assert read(
        jsonl(tmp_path / "a.jsonl", [{"instruction": Q, "input": "", "output": value}] * 3)
    )[0][0] == Conversation.of(Q, text)


def test_the_references_parts_are_known(tmp_path):
    content = [
        {"type": "text", "text": "It is "},
        {"type": "python", "text": "1+1"},
        {"type": "python_output", "text": "2"},
    ]
    found, _ = read(
        jsonl(tmp_path / "a.jsonl", [[USER, {"role": "assistant", "content": content}]] * 2)
    )
    expected = Message(
        "assistant", (Part("text", "It is "), Part("python", "1+1"), Part("output", "2"))
    )
    assert found[0] == Conversation((Message.of("user", Q), expected))


MANY = [{"messages": [USER, SAID]}] * 3


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(MANY),
        json.dumps(MANY, indent=1),
        "\n".join(json.dumps(row, indent=1) for row in MANY),
        "[\n" + ",\n".join(map(json.dumps, MANY)) + "\n]\n",
        ",\n".join(map(json.dumps, MANY)),
        "".join(map(json.dumps, MANY)),
        "".join(json.dumps(row) + "\n" for row in MANY),
        json.dumps([[USER, SAID]] * 3),
        json.dumps([[USER, SAID]] * 3, indent=2),
        "".join(json.dumps([USER, SAID]) + "\n" for _ in MANY),
        json.dumps({"version": 1, "data": MANY}),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_is_read_whatever_its_shape_and_name(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name)[0] == [TALK] * 3
    assert list(JsonlConversations(tmp_path / name, "train")) == [TALK] * 2


def test_a_mixture_reads_csv_and_parquet_too(tmp_path):
    pq.write_table(pa.Table.from_pylist([{"question": Q, "answer": A}] * 3), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(f'Frage,Antwort\n"{Q}","{A}"\n"{Q}","{A}"\n')
    assert list(JsonlConversations(tmp_path / "a.parquet", "train")) == [TALK] * 2
    assert list(JsonlConversations(tmp_path / "a.csv", "train")) == [TALK]


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ({"en": TALE, "de": "Es waren einmal Gänse, die weit fort flogen."}, "de"),
        ({"foo": Q, "bar": A}, "bar"),
        ({"question": Q, "reasoning": TALE * 2, "answer": A}, "reasoning"),
        ({"question": Q, "choices": ["a tall one", "b"], "answer": 1}, "choices"),
        ({"question": Q, "options": ["Rome", "Oslo"], "answer": "B"}, "options"),
        (
            {
                "meta_instruction": "You are a kind assistant.",
                "chat": {"turn_1": {"Human": Q, "MOSS": A}},
            },
            "chat",
        ),
        ({"title": "Geese", "paragraphs": [TALE, TALE], "note": "A poem of old."}, "paragraphs"),
    ],
)
def test_a_column_with_as_much_text_may_not_be_left_behind_unasked(row, left, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [row | {"n": i} for i in range(3)])
    fault = left_behind([plan_file(path)])
    assert fault is not None
    assert f"{left!r}, which holds" in fault.what
    assert "--question COL --answer COL" in str(fault)
    asked = next(name for name, value in row.items() if isinstance(value, str))
    plan = plan_file(path, column=asked)
    assert left_behind([plan]) is None  # somebody chose
    assert left in unused_prose([plan])


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"title": "The tale of the geese", "text": TALE * 5}, ["title"]),
        ({"prompt": Q, "messages": [USER, SAID]}, ["prompt"]),  # repeats a part
        (
            {"instruction": Q, "output": A, "text": f"Below is a task. ### {Q} ### {A} The end."},
            ["text"],
        ),  # repeats all
        (
            {
                "url": "http://a.b/c-d-e",
                "lang": "en",
                "date": "2020-01-01 12:00",
                "kind": "open qa",
                "text": TALE,
            },
            [],
        ),
    ],
)
def test_other_columns_with_prose_are_named(row, named, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    rows = [
        {name: f"{value} {i}" if name == "text" else value for name, value in row.items()}
        for i in range(5)
    ]
    path = jsonl(tmp_path / "a.jsonl", rows)
    for action in ("import", "inspect"):
        assert main(["data", action, str(path)]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert [name for name in row if f"Not used: column '{name}'" in shown] == (
            named if named else []
        )


PREFERENCES = [
    {"prompt": Q, "chosen": A, "rejected": "No."},
    {
        "chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}",
        "rejected": f"\n\nHuman: {Q}\n\nAssistant: No.",
    },
    {
        "prompt": Q,
        "messages": [USER, SAID],
        "chosen": [USER, SAID],
        "rejected": [USER, SAID | {"content": "No."}],
    },
    {"question": Q, "response_chosen": A, "response_rejected": "No."},
    {"prompt": Q, "response_0": A, "response_1": "No.", "better_response_id": 0},
    {
        "winner": "model_a",
        "conversation_a": [USER, SAID],
        "conversation_b": [USER, SAID | {"content": "No."}],
    },
]


@pytest.mark.parametrize("row", PREFERENCES)
def test_preference_pairs_are_sent_to_dpo(row, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [row] * 3)
    with pytest.raises(DataError, match=r"preference pairs.*\[dpo\]: data = "):
        plan_file(path)
    if "messages" not in row:  # which a mixture takes
        with pytest.raises(DataError, match="preference pair"):
            JsonlConversations(path, "train")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"role": "user", "text": TALE, "parent_id": "x"}] * 3,
            "a single message, not a conversation",
        ),
        ([{"prompt": Q, "completion": A, "label": False}] * 3, "good or bad"),
        ([1, 2], "line 1: a number where an object"),
        ([None], "line 1: a null where an object"),
    ],
)
def test_rows_that_are_neither_are_refused_with_their_own_reason(rows, said, tmp_path):
    with pytest.raises(DataError, match=said):
        plan_files([jsonl(tmp_path / "a.jsonl", rows)])


def test_a_file_full_of_rows_never_holds_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text("{'text': 'A story.'}\n" * 20)
    with pytest.raises(
        DataError,
        match=r"None of the 20 rows .*line 1: not JSON \(Expecting property name.*json\.dumps",
    ):
        plan_files([tmp_path / "a.jsonl"])
    (tmp_path / "b.json").write_text('[{"text": "a"},\n{"text": "b" "c"}]')
    with pytest.raises(DataError, match=r"b\.json is not a readable json file \(line 2"):
        plan_files([tmp_path / "b.json"])
    (tmp_path / "c.json").write_text(json.dumps([TALE, Q]))
    assert read(tmp_path / "c.json")[0] == [TALE, Q]
    (tmp_path / "d.jsonl").write_text(" \n")
    with pytest.raises(DataError, match="holds nothing"):
        plan_files([tmp_path / "d.jsonl"])


def test_a_mixture_names_what_it_leaves_behind(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"passage_of_it": TALE, "question": Q, "answer": A}] * 3)
    assert JsonlConversations(path, "train").notes == (
        (
            f"{path}: not used is what stands in 'passage_of_it'; `chatling data import` takes"
            " other columns."
        ),
    )


def test_columns_may_be_named(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"foo": Q, "below": TALE, "bar": A}, {"foo": Q, "bar": 3}])
    found, _ = read(path, question=["foo", "below"], answer="BAR")
    assert found == [Conversation.of(f"{Q}\n\n{TALE}", A), Conversation.of(Q, "3")]
    with pytest.raises(DataError, match="no column 'nope'; it has foo, below, bar"):
        plan_file(path, question=["nope"], answer="bar")
    with pytest.raises(DataError, match="holds a list, not a text"):
        plan_file(
            jsonl(tmp_path / "b.jsonl", [{"lines": ["Of geese", "and swans"]}]), column="lines"
        )


def test_rows_without_the_column_are_bad_ones_with_their_line(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": TALE}] * 30 + [{"content": TALE}])
    errors = RowErrors()
    assert len(list(iter_planned(plan_files([path]), errors))) == 30
    assert errors.examples == [f"{path} line 31: it has no 'text'; it has content"]
