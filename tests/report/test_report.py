"""A report says what the run's files say, shows what is missing as missing, and needs nothing from
elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from chatling.cli import main
from chatling.model.config import ModelConfig, flops_per_token
from chatling.pipeline.stages import STAGES
from chatling.report.collect import collect
from chatling.report.document import Report, compose
from chatling.report.figures import Figure
from chatling.report.render import to_html, write_report
from chatling.report.results import gpt2_scores
from chatling.run_dir import RunFolder, manifest_fault, write_json

from .conftest import MACHINE, SHAPE, results

Make = Callable[..., RunFolder]
VOID = {"meta", "br", "hr", "img", "input", "link", "use", "path", "rect"}


class Balanced(HTMLParser):
    """Checks that every tag is closed, and keeps the text and the attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [value for key, value in attrs if key == "id" and value]
        self.links += [str(found[key]) for key in ("src", "href", "xlink:href") if key in found]
        self.seen.add(tag)
        if tag == "br":
            self.text += "\n"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(*runs: RunFolder) -> Report:
    return compose([collect(run, STAGES) for run in runs])


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    found = json.loads(path.read_text())
    edit(found)
    path.write_text(json.dumps(found))


def change_state(run: RunFolder, edit: Callable[[dict[str, Any]], None]) -> None:
    state = run.read_state()
    edit(state)
    run.write_state(state)


def test_the_figures_are_those_of_the_files(make_run: Make) -> None:
    found = collect(make_run(), STAGES)
    assert (found.tokens, found.seconds) == (2 * 40 * 100, 2 + 60 + 60)
    base = found.stage("base")
    assert base is not None
    assert base.speed == pytest.approx(200)  # the first step compiles and does not count
    assert base.mfu == pytest.approx(
        200 * flops_per_token(ModelConfig.from_dict(SHAPE)) / (MACHINE["bf16_tflops"] * 1e12)
    )
    assert found.finished
    page = report(make_run()).markdown
    assert "2 min 02 s" in page
    assert "8,000" in page
    assert "60 %" in page  # the mean of 90 and 30
    assert "sft 0.4321" in page  # ChatCORE
    assert "figures/places.svg" in page


def test_the_page_is_one_file_that_asks_for_nothing(every_stage: RunFolder) -> None:
    page = to_html(report(every_stage))
    parsed = Balanced(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(link.startswith("#") and link[1:] in parsed.ids for link in parsed.links)
    assert not re.search(r"(?:https?:)?//(?!www\.w3\.org)|@import|<script|url\((?!#)", page)


def test_what_a_model_says_cannot_break_the_page(make_run: Make) -> None:
    run = make_run()
    assert "I am <b>sft</b> | of\nrun 40" in Balanced(to_html(report(run))).text
    rows = [line for line in report(run).markdown.splitlines() if "I am" in line]
    assert len(rows) == 4  # two stages, two evaluations
    assert all(re.sub(r"\\\|", "", row).count("|") == 4 for row in rows)
    assert "<b>" not in report(run).markdown


HOSTILE = (
    "<script>alert(1)</script>",
    "![x](http://evil.test/x.png)",
    "[x](javascript:alert(1))",
    "<details>\n<summary><img src=x onerror=alert(1)></summary>",
    "| a | b |\n\n# Title\n\n<br><iframe src=//evil.test>",
    "`</code>` **bold** *em* \\<b>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_shows_as_text(make_run: Make, text: str) -> None:
    run = make_run()
    said = {"topic": "who it is", "prompt": "Who?", "text": text}
    line = json.dumps({"step": 40, "samples": [said]}) + "\n"
    (run.evals / "base-samples.jsonl").write_text(line)
    page = Balanced(to_html(report(run)))
    assert re.sub(r"\s*\n\s*", "\n", text) in page.text
    assert all(link.startswith("#") for link in page.links)


ODD = (
    [{"prompt": "Who?", "text": "I"}],
    [{"topic": "who", "prompt": "Who?", "text": 7}],
    [{"topic": "who", "prompt": "Who?", "text": "I", "right": "yes"}],
    ["Who?"],
    None,
)


def test_answers_are_marked_and_lines_of_another_shape_left_out(make_run: Make) -> None:
    run = make_run()
    said = {"topic": "who", "prompt": "Who?"}
    answers = [said | {"text": "Me", "right": True}, said | {"text": "You", "right": False}]
    lines = [{"step": step, "samples": odd} for step, odd in enumerate((*ODD, answers))]
    (run.evals / "base-samples.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines))
    page = Balanced(to_html(report(run))).text
    assert "✓ Me" in page
    assert "✗ You" in page
    assert "yes" not in page


@pytest.mark.parametrize("text", HOSTILE)
def test_even_unescaped_text_cannot_bring_html(make_run: Make, text: str) -> None:
    """Two locks: should a part of the document forget to escape, the renderer lets no HTML by."""
    clean, made = Balanced(to_html(Report("a", ()))), Balanced(to_html(Report("a", (text,))))
    assert all(not link.startswith("//") for link in made.links)
    assert not {"script", "iframe", "img"} & (made.seen - clean.seen)


def test_a_missing_number_is_shown_missing(make_run: Make) -> None:
    page = Balanced(to_html(report(make_run(bare=True)))).text
    for name in ("CORE", "chat evaluations", "samples"):
        assert re.search(rf"Not measured: .*{name}", page)
    assert "nan" not in page.lower()
    assert "None" not in page


def test_an_unfinished_run_says_where_it_stands(make_run: Make) -> None:
    run = make_run(stages=("base", "mid"), unfinished="mid", bare=True)
    page = Balanced(to_html(report(run))).text
    assert "is not finished: mid is at step 25 of 40 (cut off)" in page
    assert collect(run, STAGES).parameters  # from the checkpoint


def test_a_run_that_has_just_begun_and_damaged_details(make_run: Make, tmp_path: Path) -> None:
    fresh = RunFolder(tmp_path / "fresh")
    fresh.write_state({"stages": {}, "execution": {}})
    assert "no training stage has begun" in report(fresh).markdown
    run = make_run()
    (run.evals / "base-core.json").write_text("{half")
    (run.path / "recipe.toml").write_text("= broken")
    with open(run.stage("base") / "metrics.jsonl", "a") as file:
        file.write('{"step": 41, "lo')
    assert "Not measured: CORE" in Balanced(to_html(report(run))).text


def test_resumes_are_told_with_their_time_and_step(make_run: Make) -> None:
    run = make_run()
    again = {
        "started": "2026-01-02T05:06:07+00:00",
        "after": "running",
        "begun_at": 20,
        "status": "done",
    }

    def edit(state: dict[str, Any]) -> None:
        state["stages"]["base"] |= {"resumes": 1}
        state["stages"]["base"]["attempts"].append(again)
        state["stages"]["sft"] |= {
            "resumes": 2,
            "attempts": [],
        }  # of a time when attempts were not noted

    change_state(run, edit)
    page = report(run).markdown
    assert "Base was cut off; it resumed from step 20 at 2026-01-02 05:06 UTC." in page
    assert "Sft resumed after more breaks (2); when was not recorded." in page
    assert "nothing was resumed" not in page
    assert "nothing was resumed" in report(make_run("calm")).markdown


def test_problems_of_the_evaluations_are_told(make_run: Make) -> None:
    run = make_run()
    attempt = {
        "started": "2026-01-02T05:06:07+00:00",
        "after": None,
        "problems": ["CORE was left out: no such folder"],
    }
    change_state(
        run,
        lambda s: s["stages"].update(
            eval={"status": "done", "seconds": 1.0, "attempts": [attempt]}
        ),
    )
    page = report(run).markdown
    assert "A.jsonl line 3: no choices." in page
    assert "3 examples did not fit the context" in page
    assert "CORE was left out: no such folder." in page


def test_energy_and_cost_only_where_known(make_run: Make) -> None:
    run = make_run()
    assert collect(run, STAGES).cost is None
    with open(run.path / "recipe.toml", "a") as file:
        file.write("\n[machine]\nwatts = 300.0\nprice_per_hour = 3.0\n")
    found = collect(run, STAGES)
    assert found.cost == pytest.approx(3 * 122 / 3600)
    assert found.energy == pytest.approx(0.3 * 122 / 3600)


def core_of(run: RunFolder, **facts: Any) -> None:
    names = [name for name in gpt2_scores() if name != "CORE"]
    tasks = {
        name: {"accuracy": 0.5, "centered": 0.1, "count": 10, "baseline": 0.25, "cropped": 0}
        for name in names
    }
    found = {"core": 0.1, "cut": False, "limit": None, "tasks": tasks, "problems": []} | facts
    write_json(run.evals / "base-core.json", {"stage": "base", "eval": "core", "results": found})


def test_gpt2_stands_beside_the_full_bundle_only(make_run: Make) -> None:
    run = make_run()
    core_of(run)
    assert "GPT-2 XL 0.2565" in report(run).markdown
    for facts in (
        {"cut": True},
        {"limit": 500},
        {"tasks": {"piqa": {"accuracy": 0.5, "centered": 0.0, "count": 5, "baseline": 0.5}}},
    ):
        core_of(run, **facts)
        page = report(run).markdown
        assert "GPT-2" not in page
        assert "published scores do not compare" in page


def test_gpt2_scores_are_the_published_ones(data_pack: Path) -> None:
    published = data_pack / "eval_bundle/reference_results"
    files = {
        "GPT-2 small": "gpt2",
        "GPT-2 medium": "gpt2-medium",
        "GPT-2 large": "gpt2-large",
        "GPT-2 XL": "gpt2-xl",
    }
    for name, file in files.items():
        rows = [
            line.split(",")
            for line in (published / f"openai-community-{file}.csv").read_text().splitlines()[1:]
        ]
        assert {task: scores[name] for task, scores in gpt2_scores().items()} == {
            row[0].strip(): float(row[2]) for row in rows
        }
    tasks = [score for task, score in gpt2_scores().items() if task != "CORE"]
    for name in files:
        assert gpt2_scores()["CORE"][name] == pytest.approx(
            sum(task[name] for task in tasks) / 22, abs=2e-6
        )


def test_answers_stand_side_by_side(make_run: Make) -> None:
    def answers(made: Report) -> tuple[list[str], list[str]]:
        """Whose answers are shown, and whose are folded away."""
        section = made.markdown.split("## What it says")[1].split("## How training went")[0]
        shown, _, earlier = section.partition("<summary>How it came about</summary>")
        first, second = (re.findall(r"^\| (.+?) \| \w+\?", text, re.M) for text in (shown, earlier))
        return first, second

    made = report(make_run())
    assert answers(made) == (["base", "sft"], ["base, step 20", "sft, step 20"])
    assert "<br>run 40 |" in made.markdown.partition("<summary>How it came")[0]  # the last ones
    assert answers(report(make_run("a"), make_run("b"))) == (["a", "b"], [])


def test_several_runs_are_compared(make_run: Make) -> None:
    a, b = make_run("a"), make_run("b", ("base",))
    (b.path / "recipe.toml").write_text(
        'name = "b"\nseed = 1\n\n[model]\ndepth = 3\n\n[base]\nsteps = 40\n'
    )
    write_json(
        b.evals / "sft-chat.json", {"stage": "sft", "results": results(facts=0.5)}
    )  # of a stage that b does not have
    page = report(a, b).markdown
    assert "| model.depth | 2 | 3 |" in page
    assert "base.steps" not in page
    assert "seed" not in page.split("## Where the recipes differ")[1].split("##")[0]
    assert "figures/base-loss.svg" in report(a, b).figures
    Balanced(to_html(report(a, b)))


def test_figures_are_files_of_their_own_too(make_run: Make, tmp_path: Path) -> None:
    made = report(make_run())
    write_report(made, tmp_path / "out")
    assert manifest_fault(tmp_path / "out") is None
    page = (tmp_path / "out/report.md").read_text()
    linked = re.findall(r"\]\((figures/[^)]+)\)", page)
    assert sorted(linked) == sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out/figures").iterdir()
    )
    for name in linked:
        text = (tmp_path / "out" / name).read_text()
        ElementTree.fromstring(text)
        used = set(re.findall(r"var\((--[\w-]+)\)", text))
        assert used <= set(re.findall(r"(--[\w-]+):#", text))
        assert "prefers-color-scheme:dark" in text


def test_every_stage_has_its_curves(every_stage: RunFolder) -> None:
    made = report(every_stage)
    kinds = ("loss", "rate", "gradient", "speed")
    assert {
        f"figures/{stage}-{kind}.svg"
        for stage in ("base", "mid", "sft", "dpo", "rl")
        for kind in kinds
    } <= made.figures.keys()
    assert {f"figures/{stage}-bpb.svg" for stage in ("base", "mid", "sft")} <= made.figures.keys()
    assert all(isinstance(part, Figure) or part for part in made.parts)


def test_the_command(
    make_run: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    a, b = make_run("a"), make_run("b")
    assert main(["report", str(a.path)]) == 0
    assert str(a.path / "report/report.html") in capsys.readouterr().out
    assert (a.path / "report/report.md").exists()
    assert main(["report", str(a.path), str(b.path)]) == 0
    assert (tmp_path / "home/reports/a+b/report.html").exists()
    assert main(["report", "nowhere"]) == 1
    assert "no run" in capsys.readouterr().err
