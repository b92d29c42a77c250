"""What `run` would refuse later is refused by `plan` and at the start of `run`, in the same
words.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatling.cli import main
from chatling.config.recipe import Recipe, load_recipe, to_toml
from chatling.errors import ChatlingError, RecipeError
from chatling.pipeline.checks import check

RECIPE = """
[model]
depth = 1
width = 32
head_width = 16
context = 64
[tokenizer]
vocab_size = 400
[data]
source = "CORPUS"
[base]
steps = 2
batch_tokens = 128
validation_tokens = 256
[mid]
packed = true
batch_tokens = 128
mixture = [{task = "pocket", count = 20}]
[sft]
packed = false
mixture = [{task = "TALKS"}]
[dpo]
data = "PAIRS"
[rl]
task = "pocket"
questions = 10
questions_per_step = 2
samples = 2
max_tokens = 16
steps = 1
[eval]
core = "pocket"
chat = ["pocket"]
"""


def talk(question: str, answer: str) -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that runs, with all data of one's own, and files that are bad in all ways."""
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("chatling.hardware.detect.gemm_tflops", lambda device, dtype: 1.0)
    for name, texts in {
        "corpus": [f"In the year {i} the river rose." for i in range(300)],
        "blank": ["", " "],
    }.items():
        (tmp_path / name).mkdir()
        for i in range(2):
            pq.write_table(
                pa.table({"text": texts, "number": range(len(texts))}),
                tmp_path / name / f"{i}.parquet",
            )
    for name in ("empty", "single", "damaged", "pipes"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.table({"text": ["alone"]}), tmp_path / "single/0.parquet")
    for i in range(2):
        (tmp_path / f"damaged/{i}.parquet").write_bytes(b"PAR1 and no more")
        os.mkfifo(tmp_path / f"pipes/{i}.parquet")
    os.mkfifo(tmp_path / "pipe.jsonl")
    talks = [talk(f"Hi {i}", "Hello!") for i in range(100)]
    write(tmp_path / "talks.jsonl", talks)
    write(tmp_path / "one.jsonl", talks[:1])
    write(tmp_path / "wrong.jsonl", [{"messages": [{"role": "assistant", "content": "x"}]}] * 20)
    write(tmp_path / "long.jsonl", [talk("word " * 1_000, "Hello!")] * 20)
    write(tmp_path / "array.json", [talks])
    write(tmp_path / "numbers.json", [[1, 2, 3]])
    (tmp_path / "alpaca.csv").write_text("instruction,output\n" + "Say it,It\n" * 20)
    (tmp_path / "nothing.jsonl").write_text("")
    (tmp_path / "table.csv").write_text("number,square\n" + "3,9\n" * 20)
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00" * 100)
    pairs = [{"prompt": f"Question {i}", "chosen": "Good.", "rejected": "Bad."} for i in range(100)]
    write(tmp_path / "pairs.jsonl", pairs)
    write(tmp_path / "pair.jsonl", pairs[:1])
    write(tmp_path / "longpairs.jsonl", [{**pair, "chosen": "word " * 1_000} for pair in pairs])
    text = RECIPE
    for word, name in {"CORPUS": "corpus", "TALKS": "talks.jsonl", "PAIRS": "pairs.jsonl"}.items():
        text = text.replace(word, str(tmp_path / name))
    (tmp_path / "r.toml").write_text(text)
    return tmp_path


def words(text: str) -> list[str]:
    return text.split()


REFUSED = [
    # shapes, rates and batches
    ("--model.width 100", "does not divide into 7 heads"),
    ("--model.kv-heads 3", "does not divide into 2 heads"),
    ("--model.head-width 15 --model.width 30", "Head width 15 is odd"),
    ("--base.batch-tokens 100", "not a multiple of the context"),
    ("--base.steps none --base.tokens 100", "not one step would be trained"),
    ("--base.steps none --base.tokens-per-parameter 0.001", "not one step would be trained"),
    ("--mid.batch-tokens 63", "less than one row of 64 tokens"),
    ("--mid.mixture.0.count 0", "The mixture of [mid] comes to no conversations"),
    ("--sft.mixture.0.epochs 0", "The mixture of [sft] comes to no conversations"),
    # the machine
    ("--machine.kernel flex", "flex kernel"),
    # text
    ("--data.source HOUSE/nowhere", "no such folder"),
    ("--data.source HOUSE/empty", "0 parquet files; training needs at least two"),
    ("--data.source HOUSE/single", "1 parquet files"),
    ("--data.source HOUSE/talks.jsonl", "it is a file, not a folder"),
    ("--data.source HOUSE/damaged", "not a readable parquet file"),
    ("--data.source HOUSE/pipes", "0.parquet is not a file that can be read"),
    ("--data.source HOUSE/blank", "holds no text"),
    ("--data.column body", "has no column 'body'"),
    ("--data.column number", "not text"),
    ("--data.source pocket --data.column body", "the built-in world's column is 'text'"),
    ("--data.local HOUSE/nowhere", "There is no folder"),
    # conversations
    ("--sft.mixture.0.task HOUSE/nowhere.jsonl", "There is no task or file"),
    ("--sft.mixture.0.task HOUSE/empty", "There is no task or file"),
    ("--sft.mixture.0.task HOUSE/pipe.jsonl", "There is no task or file"),
    ("--sft.mixture.0.task HOUSE/numbers.json", "chatling data import HOUSE/numbers.json"),
    ("--sft.mixture.0.task HOUSE/table.csv", "chatling data import HOUSE/table.csv"),
    (
        "--mid.mixture.0.count none --mid.mixture.0.task HOUSE/table.csv",
        "chatling data import HOUSE/table.csv",
    ),
    ("--sft.mixture.0.task HOUSE/nothing.jsonl", "chatling data import HOUSE/nothing.jsonl"),
    ("--sft.mixture.0.task HOUSE/wrong.jsonl", "chatling data import HOUSE/wrong.jsonl"),
    ("--sft.mixture.0.task HOUSE/bytes.jsonl", "chatling data import HOUSE/bytes.jsonl"),
    ("--sft.mixture.0.task HOUSE/one.jsonl", "chatling data import HOUSE/one.jsonl"),
    ("--sft.mixture.0.task HOUSE/long.jsonl", "begins within the context"),
    # preference pairs
    ("--dpo.data HOUSE/nowhere", "There are no preference pairs at"),
    ("--dpo.data data/missing.jsonl", "There are no preference pairs at"),
    ("--dpo.data HOUSE/empty", "holds no text or data files"),
    ("--dpo.data HOUSE/pipe.jsonl", "is a pipe, socket or device"),
    ("--dpo.data HOUSE/talks.jsonl", "HOUSE/talks.jsonl"),
    ("--dpo.data HOUSE/pair.jsonl", "too few to hold some out"),
    ("--dpo.data HOUSE/longpairs.jsonl", "None of the preference pairs"),
    # reinforcement learning and evaluation
    ("--rl.max-tokens 65", "no room is left for a question"),
    ("--rl.task GMS8K", "Did you mean 'GSM8K'?"),
    ("--rl.task HumanEval", "HumanEval has no split 'train'"),
    ("--rl.task SmolTalk", "not questions that can be judged"),
    ("--rl.task HOUSE/talks.jsonl", "not questions that can be judged"),
    ("--eval.chat MMUL", "Did you mean 'MMLU'?"),
    ("--eval.chat identity", "not questions that can be judged"),
    ("--eval.core HOUSE/empty", "There is no CORE bundle"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=[changes for changes, _ in REFUSED])
def test_plan_and_run_refuse_the_same(
    house: Path, changes: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (house / "bad.toml").write_text(to_toml(recipe(house, changes)))
    told = []
    for command in ("plan", "run"):
        assert main([command, str(house / "bad.toml")]) in (1, 2)
        told.append(capsys.readouterr())
    assert told[0].err == told[1].err
    assert told[0].out == told[1].out == ""  # no plan, and nothing begun
    assert sentence.replace("HOUSE", str(house)) in told[0].err.replace("\n", " ")
    assert not list((house / "home").rglob("tokenizer"))


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here(
    house: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatling.hardware.detect.find_device", lambda: "cpu")
    with pytest.raises(ChatlingError, match=f"no {device} device"):
        check(recipe(house, f"--machine.device {device}"))


def test_compiled_code_without_a_compiler(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatling.hardware.detect.has_compiler", lambda: False)
    with pytest.raises(ChatlingError, match="no C\\+\\+ compiler"):
        check(recipe(house, "--machine.device cpu --machine.compile on"))


def recipe(house: Path, changes: str = "") -> Recipe:
    return load_recipe(str(house / "r.toml"), words(changes.replace("HOUSE", str(house))))


@pytest.mark.parametrize(
    ("processes", "changes", "field"),
    [
        (3, "", "base.batch_tokens"),
        (2, "--mid.batch-tokens 64", "mid.batch_tokens"),
        (2, "--sft.batch-conversations 5", "sft.batch_conversations"),
        (2, "--dpo.batch-pairs 5", "dpo.batch_pairs"),
        (2, "--rl.questions-per-step 3", "rl.questions_per_step"),
    ],
)
def test_every_stage_divides_over_the_processes(
    house: Path, processes: int, changes: str, field: str
) -> None:
    check(recipe(house, changes))
    with pytest.raises(
        RecipeError, match=f"does not divide over {processes} processes. Change {field}"
    ):
        check(recipe(house, changes), processes=processes)


def test_only_what_is_left_to_do_is_looked_into(house: Path) -> None:
    gone = recipe(
        house,
        "--data.source HOUSE/nowhere --sft.mixture.0.task HOUSE/nowhere.jsonl --dpo.data"
        " HOUSE/empty",
    )
    assert check(gone, ()).survey.text is None
    with pytest.raises(ChatlingError, match="There is no task or file"):
        check(gone, ("sft",))
    check(
        recipe(house, "--machine.device mps --base.batch-tokens 64"), ("report",), processes=2
    )  # nothing is trained


@pytest.mark.parametrize("name", ["array.json", "alpaca.csv"])
def test_other_shapes_are_read_or_refused_with_the_way_out(house: Path, name: str) -> None:
    changed, told = recipe(house, f"--sft.mixture.0.task HOUSE/{name}"), ""
    try:
        read = check(changed).survey.talks[str(house / name)].items
    except ChatlingError as error:
        read, told = 0, str(error)
    assert read > 10 or f"chatling data import {house / name}" in told


def test_one_conversation_is_enough_to_validate_on(house: Path) -> None:
    alone = recipe(house)
    assert alone.sft is not None
    entry = replace(alone.sft.mixture[0], task=str(house / "one.jsonl"))
    assert (
        check(replace(alone, sft=replace(alone.sft, validation=(entry,))))
        .survey.talks[entry.task]
        .held_out
        == 1
    )


def test_the_data_are_counted(house: Path) -> None:
    found = check(recipe(house))
    text, talks, pairs = (
        found.survey.text,
        found.survey.talks[str(house / "talks.jsonl")],
        found.survey.pairs,
    )
    assert text is not None
    assert pairs is not None
    assert (text.items, text.characters, text.exact) == (
        300,
        sum(len(f"In the year {i} the river rose.") for i in range(300)),
        True,
    )
    assert (talks.items, talks.held_out, talks.exact) == (98, 2, True)
    assert pairs.items + pairs.held_out == 100
    base, sft, dpo = found.plan.uses
    assert sft.epochs == dpo.epochs == 1
    assert base.epochs == pytest.approx(2 * 128 / base.tokens)
    assert found.plan.stages[2].conversations == 98
    assert not found.warnings


@pytest.mark.parametrize(
    ("changes", "stage", "sentence"),
    [
        ("--base.steps 5000", "base", "Take fewer steps (--base.steps "),
        ("--sft.epochs 11", "sft", "sft goes about 11 times through"),
        ("--sft.mixture.0.count 2000", "sft", "takes 2,000 conversations"),
        ("--dpo.epochs 20", "dpo", "fewer dpo.epochs"),
        ("--base.warmup 20", "base", "base.warmup asks for 20 steps"),
        ("--data.shards 3", "base", "are for data sets of the Hub"),
        ("--tokenizer.vocab_size 60000", "base", "too little for a vocabulary of 60,000"),
    ],
)
def test_what_looks_wrong_is_a_warning(
    house: Path, changes: str, stage: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in " ".join(check(recipe(house, changes)).warnings)
    assert main(["plan", str(house / "r.toml"), *words(changes)]) == 0
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_steps_within_ten_epochs_are_proposed(house: Path) -> None:
    warning = " ".join(check(recipe(house, "--base.steps 5000")).warnings)
    steps = int(warning.partition("--base.steps ")[2].partition(")")[0])
    assert max(use.epochs for use in check(recipe(house, f"--base.steps {steps}")).plan.uses) <= 10


def test_large_data_are_sampled(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = check(recipe(house)).survey
    monkeypatch.setattr("chatling.train.survey.WHOLE", 1000)
    sampled = check(recipe(house)).survey
    for one, other in (
        (whole.text, sampled.text),
        (*whole.talks.values(), *sampled.talks.values()),
        (whole.pairs, sampled.pairs),
    ):
        assert one is not None
        assert other is not None
        assert not other.exact
        assert other.items == pytest.approx(one.items, rel=1.5)  # pairs by their text alone
        assert other.characters / other.items == pytest.approx(one.characters / one.items, rel=0.1)


def test_too_little_memory_keeps_no_plan_back(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = words("--model.depth 40 --model.width 2048 --model.head-width 128")
    monkeypatch.setattr("chatling.hardware.detect.device_memory", lambda device: (10**9, False))
    assert main(["plan", str(house / "r.toml"), *changes]) == 0
    assert "Does not fit, because training this model needs about" in " ".join(
        capsys.readouterr().out.split()
    )
    assert main(["run", str(house / "r.toml"), *changes]) == 1
    assert "Training this model needs about" in capsys.readouterr().err


def test_humaneval_without_a_sandbox_is_told_of(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatling.tools.sandbox.Sandbox._holds", lambda self, name: False)
    assert "HumanEval will be left out" in " ".join(
        check(recipe(house, "--eval.chat all")).warnings
    )


def test_a_run_warns_at_its_start(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("chatling.pipeline.runner.run", lambda *given, **named: None)
    assert main(["run", str(house / "r.toml"), "--base.warmup", "3", "--base.steps", "5000"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "base goes about" in told
    assert "Talk to it" in told
    assert main(["run", str(house / "r.toml"), "--base.warmup", "3"]) == 0
    assert "base.warmup asks for 3 steps" in capsys.readouterr().out
