"""CORE in batches against the one-at-a-time reference, example by example; the bundle's reader
against damaged bundles.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chatling.errors import DataError
from chatling.evals import core_bundle
from chatling.evals.core import evaluate_core, judge, score_task, shots, write_core
from chatling.evals.core_bundle import (
    CoreTask,
    Item,
    fetch_bundle,
    open_bundle,
    read_bundle,
    read_items,
)
from chatling.evals.loglikelihood import ModelScorer, SpanScore
from chatling.hardware.distributed import DistContext
from chatling.model.gpt import GPT
from chatling.run_dir import RunFolder, read_json
from chatling.tokenizer.bpe import Tokenizer
from chatling.toy.core_bundle import write_core_bundle

from .conftest import MakeModel
from .core_reference import Verdict, reference_example, reference_rows, reference_tasks

TIE = 1e-5

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def pocket_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "pocket"
    write_core_bundle(folder, seed=0)
    return folder


def write_bundle(
    folder: Path, rows: Rows, kinds: dict[str, str], shots: int = 2, full: int | None = None
) -> Path:
    (folder / "eval_data").mkdir(parents=True)
    entries, table = [], io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["Eval Task", "#datapoints", "Random baseline"])
    for label, lines in rows.items():
        (folder / "eval_data" / f"{label}.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines)
        )
        entries.append(
            {
                "label": label,
                "dataset_uri": f"{label}.jsonl",
                "num_fewshot": [shots],
                "icl_task_type": kinds[label],
            }
        )
        writer.writerow([label, full or len(lines), 25])
    (folder / "core.yaml").write_text(yaml.safe_dump({"icl_tasks": entries}))
    (folder / "eval_meta_data.csv").write_text(table.getvalue())
    return folder


def verdicts(
    bundle: Path, task: dict[str, Any], model: GPT, tokenizer: Tokenizer, limit: int | None = None
) -> list[Verdict]:
    rows = reference_rows(bundle, task, limit)
    with torch.no_grad():
        return [
            reference_example(
                rows,
                i,
                task,
                lambda ids: model.logits(model(ids)),
                tokenizer.encode,
                tokenizer.bos,
                model.config.context,
            )
            for i in range(len(rows))
        ]


@pytest.mark.parametrize("preset", ["classic", "modern"])
@pytest.mark.parametrize("context", [24, 256])
def test_the_pocket_tasks_in_both_architectures(
    pocket_bundle: Path, make_model: MakeModel, tokenizer: Tokenizer, preset: str, context: int
) -> None:
    model = make_model(preset, context=context)
    tasks, _ = read_bundle(pocket_bundle)
    both, cropped = set(), 0
    for task, plain in zip(tasks, reference_tasks(pocket_bundle), strict=True):
        outcomes, _ = score_task(ModelScorer(model), tokenizer, task, limit=30)
        expected = verdicts(pocket_bundle, plain, model, tokenizer, limit=30)
        assert [outcome.correct for outcome in outcomes] == [
            verdict.correct for verdict in expected
        ]
        cropped += sum(outcome.cropped for outcome in outcomes)
        both |= {outcome.correct for outcome in outcomes}
    assert both == {True, False}
    assert bool(cropped) == (context == 24)


def test_the_real_tasks_with_ten_shots_and_cropping(
    data_pack: Path, make_model: MakeModel, tokenizer: Tokenizer
) -> None:
    bundle = data_pack / "eval_bundle"
    model = make_model(context=320)
    tasks, problems = read_bundle(bundle)
    assert len(tasks) == 22
    assert any("jeopardy_all.jsonl: line 597 repeats line 578" in problem for problem in problems)
    cropped = compared = 0
    for task, plain in zip(tasks, reference_tasks(bundle), strict=True):
        assert task.baseline == pytest.approx(plain["baseline"])
        outcomes, _ = score_task(ModelScorer(model), tokenizer, task, limit=8)
        expected = verdicts(bundle, plain, model, tokenizer, limit=8)
        unlike = [
            (a.line, b.margin)
            for a, b in zip(outcomes, expected, strict=True)
            if a.correct != b.correct
        ]
        assert all(margin < TIE for _, margin in unlike), f"{task.label}: {unlike}"
        cropped += sum(outcome.cropped for outcome in outcomes)
        compared += len(outcomes)
    assert compared == 22 * 8
    assert 40 < cropped < 160


def test_score_is_the_mean_of_centred_accuracies(
    pocket_bundle: Path, make_model: MakeModel, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model, told = make_model(context=256), list[str]()
    result = evaluate_core(model, tokenizer, pocket_bundle, limit=20, note=told.append)
    for plain in reference_tasks(pocket_bundle):
        right = [
            verdict.correct
            for verdict in verdicts(pocket_bundle, plain, model, tokenizer, limit=20)
        ]
        score = result.tasks[plain["label"]]
        assert score.accuracy == sum(right) / len(right)
        assert score.centered == pytest.approx(
            (score.accuracy - plain["baseline"]) / (1 - plain["baseline"])
        )
    assert result.core == pytest.approx(
        sum(score.centered for score in result.tasks.values()) / len(result.tasks)
    )
    assert len(told) == len(result.tasks)
    assert not result.cut
    write_core(RunFolder(tmp_path), "base", result, step=7)
    written = read_json(tmp_path / "evals/base-core.json")
    assert (written["stage"], written["eval"], written["step"]) == ("base", "core", 7)
    assert written["results"]["core"] == result.core
    assert written["results"]["limit"] == 20


class Peers(DistContext):
    """Two ranks one after the other: each one's `gather` gives what it was handed, and the
    other's.
    """

    def __init__(self, rank: int, box: dict[int, Any]):
        super().__init__(rank, 2)
        object.__setattr__(self, "box", box)

    def gather(self, value: Any) -> list[Any]:
        box: dict[int, Any] = self.box  # type: ignore[attr-defined]
        box[self.rank] = value
        return [box.get(0, {}), box.get(1, {})]


def test_ranks_share_the_examples(
    pocket_bundle: Path, make_model: MakeModel, tokenizer: Tokenizer
) -> None:
    scorer, task = ModelScorer(make_model(context=256)), read_bundle(pocket_bundle)[0][0]
    alone, _ = score_task(scorer, tokenizer, task, limit=21)
    box: dict[int, Any] = {}
    with pytest.raises(KeyError):
        score_task(scorer, tokenizer, task, 21, Peers(0, box))  # the other's are missing
    assert len(box[0]) == 11
    together, _ = score_task(scorer, tokenizer, task, 21, Peers(1, box))
    assert len(box[1]) == 10
    assert [(each.line, each.correct) for each in together] == [
        (each.line, each.correct) for each in alone
    ]
    assert [each.losses for each in together] == [
        pytest.approx(each.losses, rel=1e-12) for each in alone
    ]


@given(st.integers(0, 40), st.integers(1, 41), st.integers(0, 12))
def test_shots_are_drawn_as_from_a_list_without_the_example(
    index: int, count: int, wanted: int
) -> None:
    index %= count
    others = [i for i in range(count) if i != index]
    assert shots(index, wanted, count) == random.Random(1234 + index).sample(
        others, min(wanted, len(others))
    )


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_tiny_subsets_show_what_there_is(
    tmp_path: Path, make_model: MakeModel, tokenizer: Tokenizer, rows: int
) -> None:
    lines = [{"query": f"Number {i} is", "choices": ["one", "two"], "gold": 0} for i in range(5)]
    bundle = write_bundle(
        tmp_path / "b", {"tiny": lines}, {"tiny": "multiple_choice"}, shots=10, full=9
    )
    result = evaluate_core(make_model(), tokenizer, bundle, limit=rows)
    assert result.tasks["tiny"].count == rows
    assert f"tiny shows {rows - 1} examples instead of 10" in " ".join(result.problems)
    assert result.cut  # five rows of nine


def test_a_choice_that_begins_the_other(
    tmp_path: Path, make_model: MakeModel, tokenizer: Tokenizer
) -> None:
    """Its mean loss is of no tokens. As in the reference it is chosen when it comes first, and
    never otherwise; and it is told of.
    """
    choices = ["squish water", "squish water and melons"]
    lines = [{"query": "compactor", "choices": choices[::step], "gold": 0} for step in (1, -1)]
    bundle = write_bundle(tmp_path / "b", {"piqa": lines}, {"piqa": "multiple_choice"}, shots=0)
    task = read_bundle(bundle)[0][0]
    outcomes, problems = score_task(ModelScorer(make_model()), tokenizer, task)
    assert all(outcome.correct for outcome in outcomes)
    assert sorted(math.isnan(loss) for outcome in outcomes for loss in outcome.losses) == [
        False,
        False,
        True,
        True,
    ]
    assert "line 1, 2" in problems[0]
    assert "piqa.jsonl" in problems[0]


def test_the_first_of_equal_choices_is_taken() -> None:
    task = CoreTask("t", "multiple_choice", 0, " ", 0.5, Path("t"), (), 0)
    same = (SpanScore(2.0, 2, False), SpanScore(1.0, 1, False))
    assert judge(task, Item(1, "q", ("a", "b"), 0), same, False).correct
    assert not judge(task, Item(1, "q", ("a", "b"), 1), same, False).correct


BAD = {
    b"": "is empty",
    b"{": "is malformed",
    b"[1]": "not an object",
    b"\xff": "is malformed",
    b'{"query": "q", "choices": ["a", "b"]}': "lacks 'gold'",
    b'{"query": "q", "choices": ["a", "b"], "gold": 2}': "gold is 2, with 2 choices",
    b'{"query": "q", "choices": ["a", "b"], "gold": true}': "gold is True",
    b'{"query": "q", "choices": ["a", " "], "gold": 0}': "none of them empty",
    b'{"query": "q", "choices": ["a"], "gold": 0}': "at least two choices",
    b'{"query": "", "choices": ["a", "b"], "gold": 0}': "query is empty",
    b'{"query": 3, "choices": ["a", "b"], "gold": 0}': "query is no text",
}


@pytest.mark.parametrize(("line", "fault"), BAD.items())
def test_bad_rows_are_left_out_and_named(tmp_path: Path, line: bytes, fault: str) -> None:
    good = b'{"query": "q", "choices": ["a", "b"], "gold": 1}'
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([good, line, good + b" ", b""]))
    items, (left_out, repeated) = read_items(path, "multiple_choice")
    assert [item.line for item in items] == [1, 3]
    assert left_out.startswith(f"{path}: left out line 2 ")
    assert fault in left_out
    assert repeated == f"{path}: line 3 repeats line 1."


def test_a_bundle_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no CORE bundle in"):
        read_bundle(tmp_path)
    lines = [{"context": "a", "continuation": "b"}]
    for number, (damage, said) in enumerate(
        (("missing", "lacks a file"), ("empty", "no usable row"), ("kind", "unknown type 'essay'"))
    ):
        kinds = {"t": "essay" if damage == "kind" else "language_modeling"}
        bundle = write_bundle(
            tmp_path / str(number), {"t": [] if damage == "empty" else lines}, kinds
        )
        if damage == "missing":
            (bundle / "eval_data/t.jsonl").unlink()
        with pytest.raises(DataError, match=said):
            read_bundle(bundle)
    (bundle / "core.yaml").write_text("icl_tasks: [{label: other}]")
    with pytest.raises(DataError, match="entry that cannot be used"):
        read_bundle(bundle)


def test_the_cut_bundle_is_known_as_one(data_pack: Path) -> None:
    tasks, _ = read_bundle(data_pack / "eval_bundle")
    assert sum(task.full for task in tasks) == 91_037  # the published bundle's examples
    assert {task.label for task in tasks if not task.cut} == {
        "copa",
        "openbook_qa",
        "winograd",
        "agi_eval_lsat_ar",
        "bigbench_dyck_languages",
        "bigbench_operators",
        "bigbench_repeat_copy_logic",
    }


class Archive:
    """A fetcher whose network has one file."""

    def __init__(self, cache: Path, archive: Path):
        self.cache, self.archive, self.asked = cache, archive, 0

    def url(self, url: str, sha256: str) -> Path:
        assert (url, sha256) == (core_bundle.BUNDLE_URL, core_bundle.BUNDLE_SHA256)
        self.asked += 1
        return self.archive


def test_the_full_bundle_is_unpacked_once_and_nothing_outside(
    tmp_path: Path, pocket_bundle: Path
) -> None:
    archive = tmp_path / "eval_bundle.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(pocket_bundle.rglob("*")):
            if path.is_file() and path.name != "manifest.json":
                packed.write(path, f"eval_bundle/{path.relative_to(pocket_bundle)}")
        packed.writestr("eval_bundle/eval_data/../../../escaped", "x")
        packed.writestr("__MACOSX/eval_bundle/core.yaml", "x")
    fetcher: Any = Archive(tmp_path / "cache", archive)
    folder = fetch_bundle(fetcher)
    assert read_bundle(folder)[0] == [
        task.__class__(**{**vars(task), "file": folder / task.file.relative_to(pocket_bundle)})
        for task in read_bundle(pocket_bundle)[0]
    ]
    assert not list(tmp_path.rglob("escaped")) or all(
        folder in path.parents for path in tmp_path.rglob("escaped")
    )
    stamp = (folder / "core.yaml").stat().st_mtime_ns
    make: Callable[[], Any] = lambda: fetcher  # noqa: E731
    assert open_bundle("full", RunFolder(tmp_path / "run"), 0, make) == folder
    assert (folder / "core.yaml").stat().st_mtime_ns == stamp
    assert read_bundle(open_bundle("pocket", RunFolder(tmp_path / "run"), 0, make))[0]
    assert open_bundle(str(tmp_path), RunFolder(tmp_path / "run"), 0, make) == tmp_path
