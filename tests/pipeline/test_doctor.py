"""`chatling doctor` on this machine, and what a run says at its start."""

from __future__ import annotations

import json
import time

import pytest

from chatling.cli import main
from chatling.config.recipe import load_recipe
from chatling.data.hub import ask_hub
from chatling.hardware import probes
from chatling.hardware.facts import Facts
from chatling.pipeline import session
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
    assert "cannot" in probes.compiler_error("/no/such/compiler")
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
