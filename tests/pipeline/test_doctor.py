"""`chatling doctor` on this machine, and what a run says at its start."""

from __future__ import annotations

import errno
import json
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from chatling.cli import main
from chatling.config.recipe import load_recipe
from chatling.data.hub import ask_hub
from chatling.hardware import probes
from chatling.hardware.distributed import DistContext
from chatling.hardware.doctor import diagnose
from chatling.hardware.facts import Facts
from chatling.hardware.gather import existing, gather
from chatling.pipeline import doctor, session
from chatling.run_dir import home
from mirror import Mirror


def test_doctor_looks_at_this_machine_and_tells_no_token(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", mirror.token)
    code = main(["doctor", "--json"])
    said = capfd.readouterr()
    assert mirror.token not in said.out + said.err
    told = json.loads(said.out)
    levels = {finding["level"] for finding in told["findings"]}
    assert code == int("fault" in levels)
    facts = told["facts"]
    assert facts["endpoint"] == mirror.url
    assert facts["endpoint_error"] == ""
    assert facts["disk_speed"] > 0
    assert 0 < facts["free_share"] <= 1.05
    assert (facts["attention_error"], facts["compiler_error"] or "") == ("", "")
    assert len(told["findings"]) >= 20
    assert told["fingerprint"].count(", ") >= 5


@pytest.mark.parametrize("token", ["hf_other", "hf_zeile\nzwei", "hf_münze", ""])
def test_a_bad_token_is_refused_and_not_repeated(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    facts = ask_hub()
    assert facts["token"] == ("refused" if token else "none")
    assert not token or token not in str(facts)
    assert abs(facts["clock_skew"]) < 60


def test_a_hub_that_is_not_there_is_a_finding_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for endpoint in ("http://127.0.0.1:9", "http://[", "no address"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        begun = time.monotonic()
        assert ask_hub(0.5)["endpoint_error"]
        assert time.monotonic() - begun < 5


def test_a_compiler_that_fails_says_what_it_said() -> None:
    assert probes.compiler_error("false")
    assert "wrote nothing" in probes.compiler_error("/no/such/compiler")
    assert probes.child_error("raise ValueError('broken')") == "ValueError: broken"
    assert "did not end" in probes.child_error("while True: pass", seconds=0.2)


def test_a_run_says_only_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    facts = Facts(swap_used=4.0, memory_available=9.0, cores=1, cores_online=2, ecc_errors=1)
    monkeypatch.setattr(session, "gather", lambda home: facts)
    for device, told in (("auto", True), ("cpu", False)):
        session.run_recipe(load_recipe("pocket", ["--machine.device", device]), stages=())
        said = "".join(capfd.readouterr())
        assert "4.0 GB are swapped out" in said
        assert ("uncorrected memory errors" in said) is told
        assert "of 2 processors" not in said  # a note


@pytest.mark.parametrize("place", ["file/x", "file", "/proc/x"])
def test_a_home_that_cannot_be_written_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / place))
    facts = gather(home())
    if not facts.home_error:  # root may write to every folder, it seems
        facts = replace(facts, **probes.disk(existing(home())))  # type: ignore[arg-type]
    found = {finding.check: finding for finding in diagnose(facts)}
    assert found["home"].level == "fault"


def test_what_cannot_be_tried_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> dict[str, object]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(doctor, "ask_hub", short)
    monkeypatch.setattr(doctor, "_sandbox", dict)
    monkeypatch.setattr(doctor, "attention_error", short)
    facts = doctor.examine()
    assert facts.failed is not None
    assert [each.partition(" ")[0] for each in facts.failed] == ["hub", "attention"]
    assert "Too many open files" in facts.failed[0]


def test_ranks_of_a_run_are_no_strangers_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "gather", lambda home: Facts(gpu_processes=7))
    monkeypatch.setattr(session, "process_group", lambda device: nullcontext(DistContext()))
    for size, told in ((1, True), (8, False)):
        monkeypatch.setattr(session, "launched_size", lambda size=size: size)
        session.run_recipe(load_recipe("pocket"), stages=())
        assert ("7 other processes use the GPU" in capfd.readouterr().out) is told
