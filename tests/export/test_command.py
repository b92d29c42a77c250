"""`chatling export` from the command line: what it prints, and what it refuses."""

import pytest

from chatling.cli import main
from chatling.run_dir import RunFolder
from chatling.train.checkpoint import save_model


@pytest.fixture
def run(learned, tmp_path, monkeypatch) -> RunFolder:
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path))
    source = learned("classic", 1, steps=0)
    folder = RunFolder(tmp_path / "runs/tiny")
    folder.path.mkdir(parents=True)
    source.tokenizer.save(folder.tokenizer)
    save_model(source.model, folder.model("sft"), {"stage": "sft"})
    folder.write_state({"stages": {}, "execution": {}})
    return folder


def test_the_page_lies_in_the_runs_own_exports(run, capsys):
    assert main(["export", "tiny", "html"]) == 0
    target = run.path / "exports/sft-html"
    assert capsys.readouterr().out.splitlines()[-1] == str(target)
    assert {path.name for path in target.iterdir()} == {"tiny.html", "README.md", "manifest.json"}
    assert main(["export", "tiny", "html"]) == 0  # again, in its place


@pytest.mark.parametrize("form", ["html", "hf"])
def test_what_people_thought_of_answers_is_not_exported(run, form):
    run.feedback.mkdir()
    (run.feedback / "pairs.jsonl").write_text('{"prompt": "a secret of mine"}\n')
    assert main(["export", "tiny", form]) == 0
    files = [path for path in (run.path / "exports").rglob("*") if path.is_file()]
    assert len(files) > 2
    assert not any(b"secret of mine" in path.read_bytes() for path in files)
    assert not any("feedback" in path.name or "pairs" in path.name for path in files)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", "html", "--type", "q4_0"], "has no type 'q4_0'"),
        (["tiny", "onnx"], "'onnx'"),
        (["tiny", "html", "--stage", "rl"], "no finished rl model"),
        (["none", "html"], "no run"),
        (["tiny"], "required"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(run, capsys, words, said):
    assert main(["export", *words]) != 0
    assert said in capsys.readouterr().err


def test_a_folder_that_holds_something_is_not_replaced(run, capsys, tmp_path):
    target = tmp_path / "letters"
    target.mkdir()
    (target / "dear.txt").write_text("Dear")
    assert main(["export", "tiny", "html", "--out", str(target)]) != 0
    assert "there already" in capsys.readouterr().err
    assert (target / "dear.txt").read_text() == "Dear"


def test_a_full_disk_leaves_nothing_behind(run, monkeypatch, capsys):
    from chatling.export import html

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "page")

    monkeypatch.setattr(html, "write_atomic", full)
    assert main(["export", "tiny", "html"]) != 0
    assert "space" in capsys.readouterr().err
    assert not list((run.path / "exports").iterdir())
