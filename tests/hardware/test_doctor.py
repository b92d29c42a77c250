"""Every check, asked about a machine that has the trouble and about one that has not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from chatling.hardware.doctor import CHECKS, diagnose
from chatling.hardware.facts import Facts

# a check's name, facts that are fine, facts that are not, a word of what is then said
CASES: tuple[tuple[str, dict[str, Any], dict[str, Any], str], ...] = (
    ("python", {"python": (3, 13)}, {"python": (3, 10)}, "3.10"),
    ("python", {"python": (3, 11)}, {"python": (3, 14)}, "3.14"),
    ("packages", {"old_packages": ()}, {"old_packages": ("numpy 1.26",)}, "numpy 1.26"),
    ("encoding", {"encoding": "utf-8"}, {"encoding": "ascii"}, "ascii"),
    ("translated Python", {"translated": False}, {"translated": True}, "ARM64"),
    ("WSL", {"wsl": "2", "home": "/root/x"}, {"wsl": "2", "home": "/mnt/c/x"}, "/mnt/c/x"),
    ("WSL", {"wsl": "2", "home": "/root/x"}, {"wsl": "1", "home": "/root/x"}, "WSL 1"),
    ("memory", {"memory_available": 5.0}, {"memory_available": 1.2}, "1.2 GB"),
    (
        "memory of others",
        {"memory": 16.0, "memory_available": 12.0},
        {"memory": 128.0, "memory_available": 30.0},
        "128 GB",
    ),
    (
        "page cache",
        {"unified": False, "memory": 128.0, "memory_available": 120.0, "memory_free": 9.0},
        {"unified": True, "memory": 128.0, "memory_available": 120.0, "memory_free": 9.0},
        "9.0 of 128",
    ),
    (
        "container's memory",
        {"memory": 64.0, "memory_limit": 9e9},
        {"memory": 64.0, "memory_limit": 8.0},
        "8.0 of 64",
    ),
    ("overcommit", {"overcommit": 0}, {"overcommit": 2}, "promises"),
    (
        "swap of unified memory",
        {"unified": True, "swap": 0.0},
        {"unified": True, "swap": 16.0},
        "freezes",
    ),
    ("swap", {"swap_used": 0.3}, {"swap_used": 4.0}, "4.0 GB"),
    ("processors", {"cores": 8, "cores_online": 8}, {"cores": 2, "cores_online": 16}, "2 of 16"),
    ("busy processors", {"free_share": 0.97}, {"free_share": 0.31}, "31%"),
    ("compiler", {"compiler": "/usr/bin/c++"}, {"compiler": ""}, "no C++ compiler"),
    ("compiling", {"compiler_error": ""}, {"compiler_error": "no omp.h"}, "no omp.h"),
    ("open files", {"open_files": float("inf")}, {"open_files": 256.0}, "256 files"),
    ("processes", {"processes": 4096.0}, {"processes": 100.0}, "100 processes"),
    ("shared memory", {"shared_memory": 16.0}, {"shared_memory": 0.067}, "0.07 GB"),
    ("looking", {"failed": ()}, {"failed": ("sandbox (no memory)",)}, "no memory"),
    ("home", {"home_error": ""}, {"home_error": "Read-only file system"}, "Read-only"),
    ("temporary files", {"temp_error": ""}, {"temp_error": "No usable folder"}, "No usable"),
    ("disk", {"disk_free": 2.0}, {"disk_free": 0.4}, "0.40 GB"),
    ("room for data", {"disk_free": 90.0}, {"disk_free": 4.0}, "4.0 GB"),
    ("number of files", {"files_free": 10**6}, {"files_free": 12}, "12 more"),
    ("disk's speed", {"disk_speed": 900.0}, {"disk_speed": 12.0}, "12.0 MB/s"),
    ("network file system", {"filesystem": "ext4"}, {"filesystem": "nfs4"}, "nfs4"),
    ("passing file system", {"filesystem": "xfs"}, {"filesystem": "overlay"}, "lost"),
    ("letter case", {"case_sensitive": True}, {"case_sensitive": False}, "for one"),
    (
        "programs in the temporary folder",
        {"temp": "/tmp", "temp_executable": True},
        {"temp": "/tmp", "temp_executable": False},
        "noexec",
    ),
    ("temporary folder", {"temp": "/tmp", "temp_free": 9.0}, {"temp_free": 0.2}, "0.20 GB"),
    ("sleep", {"sleeps": False}, {"sleeps": True}, "suspend"),
    ("battery", {"on_battery": False}, {"on_battery": True}, "battery"),
    ("restart", {"reboot_required": False}, {"reboot_required": True}, "restart"),
    (
        "driver",
        {"nvidia_cards": 1, "nvidia_error": ""},
        {"nvidia_cards": 1, "nvidia_error": "Driver/library version mismatch"},
        "mismatch",
    ),
    ("nouveau", {"nouveau": False}, {"nouveau": True}, "nouveau"),
    (
        "PyTorch's build",
        {"gpus": 1, "torch_build": "CUDA"},
        {"gpus": 1, "gpu": "RTX 4090", "torch_build": "CPU"},
        "RTX 4090",
    ),
    (
        "driver's age",
        {"driver": 580, "torch_cuda": 13},
        {"driver": 570, "torch_cuda": 13},
        "driver 570",
    ),
    ("driver's age", {"driver": 570, "torch_cuda": 12}, {"driver": 470, "torch_cuda": 12}, "470"),
    ("hidden GPUs", {"gpus": 2, "visible": "0"}, {"gpus": 2, "visible": ""}, "hides"),
    (
        "PyTorch's GPU",
        {"gpus": 1, "torch_cuda": 12, "cuda": True},
        {"gpus": 1, "gpu": "A100", "torch_cuda": 12, "cuda": False},
        "A100",
    ),
    (
        "architecture",
        {"architecture_built": True},
        {"architecture_built": False, "gpu": "GB10", "capability": "12.1"},
        "12.1",
    ),
    ("Triton", {"triton_error": ""}, {"triton_error": "ptxas fatal"}, "ptxas fatal"),
    ("attention", {"attention_error": ""}, {"attention_error": "flex: no room"}, "flex"),
    ("bfloat16", {"bf16_error": ""}, {"bf16_error": "not supported"}, "not supported"),
    (
        "clock under load",
        {"gpu": "NVIDIA GB10", "clock": 2400.0},
        {"gpu": "NVIDIA GB10", "clock": 513.0},
        "513 MHz",
    ),
    ("slowed clocks", {"slowed": ""}, {"slowed": "heat"}, "heat"),
    ("temperature", {"temperature": 70.0}, {"temperature": 93.0}, "93 °C"),
    ("GPU's memory errors", {"ecc_errors": 0}, {"ecc_errors": 3}, "3 uncorrected"),
    ("Xid", {"xid": ()}, {"xid": ("79",)}, "Xid 79"),
    ("GPU's other processes", {"gpu_processes": 0}, {"gpu_processes": 2}, "2 other"),
    (
        "GPU's memory",
        {"unified": False, "gpu_memory_used": 0.5},
        {"unified": False, "gpu_memory_used": 40.0},
        "40.0 GB",
    ),
    (
        "GPU's slot",
        {"link_width": 16, "link_width_most": 16},
        {"link_width": 4, "link_width_most": 16},
        "4 of 16",
    ),
    ("unlike GPUs", {"gpu_kinds": 1}, {"gpu_kinds": 2}, "2 kinds"),
    ("divided GPU", {"mig": False}, {"mig": True}, "MIG"),
    ("AMD's GPU", {"amd_compute": True, "cuda": True}, {"amd_compute": True, "cuda": False}, "AMD"),
    ("Apple's GPU", {"mps": False}, {"mps": True}, "float64"),
    ("fast network", {"fast_ports": 4, "fast_links": 2}, {"fast_ports": 4, "fast_links": 0}, "No"),
    ("halves of the fast network", {"half_links": ()}, {"half_links": ("enp1s0f1np1",)}, "enp1"),
    ("packets of the fast network", {"small_packets": ()}, {"small_packets": ("a", "b")}, "a, b"),
    (
        "locked memory",
        {"fast_links": 1, "locked_memory": float("inf")},
        {"fast_links": 1, "locked_memory": 0.008},
        "0.008 GB",
    ),
    (
        "Hub",
        {"endpoint": "https://hub.test", "endpoint_error": ""},
        {"endpoint": "https://hub.test", "endpoint_error": "timed out"},
        "https://hub.test",
    ),
    ("Hub switched off", {"offline": False}, {"offline": True}, "HF_HUB_OFFLINE"),
    ("token", {"token": "accepted"}, {"token": "refused"}, "refuses"),
    ("clock", {"clock_skew": -3.0}, {"clock_skew": -4000.0}, "-4000"),
    ("sandbox", {"sandbox_error": ""}, {"sandbox_error": "Nothing works here."}, "Nothing"),
)


@pytest.mark.parametrize(("name", "fine", "wrong", "word"), CASES, ids=lambda each: str(each)[:24])
def test_a_check_tells_trouble_from_none(
    name: str, fine: dict[str, Any], wrong: dict[str, Any], word: str
) -> None:
    named = {"home": "/h", "temp": "/t", "gpu": "a GPU"}
    before, after = (
        {finding.check: finding for finding in diagnose(Facts(**named | facts))}
        for facts in (fine, wrong)
    )
    assert before[name].level is None
    found = after[name]
    assert found.level in ("fault", "warning", "note")
    assert word in found.symptom + found.hint
    assert found.test
    assert found.hint
    assert "None" not in found.symptom
    assert "{" not in found.symptom


def test_there_is_a_case_for_every_check() -> None:
    assert {name for name, *_ in CASES} == {check.name for check in CHECKS}
    assert len({check.name for check in CHECKS}) == len(CHECKS) >= 30


def test_what_nobody_looked_at_is_not_judged() -> None:
    assert diagnose(Facts()) == []


def test_checks_ask_for_facts_that_there_are() -> None:
    known = {field.name for field in dataclasses.fields(Facts)}
    for check in CHECKS:
        assert set(check.needs.split()) <= known


def test_the_page_lists_every_check() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert rows == [f"| {check.name} | {check.level} | {check.test} |" for check in CHECKS]
