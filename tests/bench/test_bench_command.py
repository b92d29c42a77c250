"""What `chatling bench` refuses, before anything is measured."""

from __future__ import annotations

import pytest

from chatling.cli import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("gpu decode", "gpu is measured alone"),
        ("pocket train", "pocket is measured alone"),
        ("decode --device cpu", "--device is of gpu"),
        ("decode --recipe pocket", "--recipe is of gpu or compare"),
        ("decode --record FOLDER", "--record is of the first run, the series or a comparison"),
        ("gpu --record FOLDER", "--record is of the first run, the series or a comparison"),
        ("pocket --data FOLDER", "pocket takes no --data"),
        ("series", "needs more text"),
        ("compare --recipe pocket", "Two recipes are compared"),
        ("compare --against pocket", "Two recipes are compared"),
        ("decode --against pocket", "are of compare"),
        ("pocket --seeds 2", "are of compare"),
        ("series --data FOLDER --equal seconds", "are of compare"),
        ("compare --recipe pocket --against pocket --seeds 0", "--seeds must be at least 1"),
        ("serie", "series"),
    ],
)
def test_what_does_not_go_together(
    words: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("chatling.pipeline.record.subprocess.run")  # nothing is trained
    assert main(["bench", *words.split()]) == 2
    assert told in capsys.readouterr().err
