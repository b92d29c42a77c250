"""Facts read from files and programs that the test lays out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatling.hardware.ask import output
from chatling.hardware.doctor import diagnose
from chatling.hardware.gather import gather
from chatling.hardware.gpu_facts import runs_on

SMI = "{name}, 580.95.05, {degrees}, 2400, {used}, {ecc}, {width}, 16, Disabled, {hot}, No, No"
GOOD = {"name": "NVIDIA A", "degrees": 60, "used": 512, "ecc": 0, "width": 16, "hot": "Not Active"}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def programs(answers: dict[str, str]):  # type: ignore[no-untyped-def]
    """Answers by the beginning of the command line."""
    return lambda *words, seconds=3.0: next(
        (text for begin, text in answers.items() if " ".join(words).startswith(begin)), None
    )


def test_a_healthy_server(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "root",
        {
            "proc/meminfo": "MemTotal: 64000000 kB\nMemFree: 900 kB\nMemAvailable: 60000000 kB\n"
            "SwapTotal: 2000000 kB\nSwapFree: 2000000 kB\n",
            "proc/version": "Linux version 6.8 (gcc)",
            "sys/fs/cgroup/memory.max": "max",
            "proc/sys/vm/overcommit_memory": "0",
        },
    )
    facts = gather(tmp_path, root, programs({}))
    assert facts.memory == pytest.approx(65.536)
    assert (facts.memory_limit, facts.swap_used, facts.wsl, facts.gpus) == (None, 0, None, None)
    wrong = {found.check for found in diagnose(facts) if found.level == "fault"}
    assert not wrong - {"disk", "packages"}, "the test's own machine may lack disk"


def test_nvidia_smi_is_read_by_the_worst_gpu(tmp_path: Path) -> None:
    rows = (SMI.format(**GOOD), SMI.format(**GOOD | {"degrees": 91, "ecc": 2, "hot": "Active"}))
    root = tree(
        tmp_path,
        {"sys/bus/pci/devices/0/vendor": "0x10de", "sys/bus/pci/devices/0/class": "0x030200"},
    )
    log = "[1] NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.\n"
    answers = {
        "nvidia-smi --query-gpu": "\n".join(rows) + "\n",
        "nvidia-smi --query-compute-apps": "7\n8\n",
        "dmesg": log * 2,
    }
    facts = gather(tmp_path, root, programs(answers))
    assert (facts.nvidia_cards, facts.gpus, facts.driver, facts.gpu_kinds) == (1, 2, 580, 1)
    assert (facts.temperature, facts.ecc_errors, facts.slowed) == (91, 2, "heat")
    assert (facts.gpu_processes, facts.xid, facts.nvidia_error) == (2, ("79",), "")


def test_a_gb10_that_tells_no_memory_is_read(tmp_path: Path) -> None:
    row = SMI.format(**GOOD | {"used": "[N/A]", "ecc": "[N/A]", "width": "[N/A]"})
    row = row.replace(" 16,", " [N/A],")
    facts = gather(tmp_path, tmp_path, programs({"nvidia-smi --query-gpu": row}))
    assert (facts.gpu_memory_used, facts.ecc_errors, facts.link_width) == (0, 0, None)


def test_an_old_driver_knows_other_names(tmp_path: Path) -> None:
    old = SMI.format(**GOOD).replace("580.95.05", "470.1")

    def ask(*words: str, seconds: float = 3.0) -> str | None:
        if words[0] != "nvidia-smi":
            return None
        return old if "clocks_throttle_reasons.hw_slowdown" in words[1] else "Field is not valid\n"

    facts = gather(tmp_path, tmp_path, ask)
    assert (facts.driver, facts.slowed) == (470, "")


def test_a_card_without_a_driver_is_told(tmp_path: Path) -> None:
    files = {"vendor": "0x10de", "class": "0x030000"}
    root = tree(tmp_path, {f"sys/bus/pci/devices/0/{name}": text for name, text in files.items()})
    facts = gather(tmp_path, root, programs({}))
    assert facts.nvidia_error == "nvidia-smi is not there, or does not answer"


def test_a_driver_that_fails_says_why(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {"sys/bus/pci/devices/0/vendor": "0x10de", "sys/bus/pci/devices/0/class": "0x030000"},
    )
    said = "Failed to initialize NVML: Driver/library version mismatch\n"
    facts = gather(tmp_path, root, programs({"nvidia-smi": said}))
    found = {finding.check: finding for finding in diagnose(facts)}
    assert found["driver"].level == "fault"
    assert "mismatch" in found["driver"].symptom


def test_both_halves_of_a_socket_need_an_address(tmp_path: Path) -> None:
    names = [f"{card}s0f{port}np{port}" for card in ("enp1", "enP2p1") for port in (0, 1)]
    for name in names:
        (tmp_path / "sys/class/net" / name / "device").mkdir(parents=True)
        (tmp_path / "drivers/mlx5_core").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/class/net" / name / "device/driver").symlink_to(
            tmp_path / "drivers/mlx5_core"
        )

    def look(linked: list[str], addressed: list[str], mtu: int = 9000):  # type: ignore[no-untyped-def]
        entries = [
            {
                "ifname": name,
                "operstate": "UP" if name in linked else "DOWN",
                "mtu": mtu,
                "addr_info": [{"local": "169.254.1.1"}] if name in addressed else [],
            }
            for name in names
        ]
        return gather(tmp_path, tmp_path, programs({"ip -json": json.dumps(entries)}))

    pair = ["enp1s0f1np1", "enP2p1s0f1np1"]
    assert look(pair, pair).half_links == ()
    assert look(pair, pair[:1]).half_links == ("enP2p1s0f1np1", "enp1s0f1np1")
    assert look(pair[:1], pair[:1]).half_links == ("enp1s0f1np1",)
    assert look(pair, pair, 1500).small_packets == tuple(sorted(pair, key=names.index))
    assert (look([], []).fast_ports, look([], []).fast_links) == (4, 0)


@pytest.mark.parametrize(
    ("built", "capability", "runs"),
    [
        (["sm_80", "sm_90"], (9, 0), True),
        (["sm_80", "sm_90"], (12, 1), False),
        (["sm_120"], (12, 1), True),
        (["sm_121"], (12, 0), False),
        (["sm_80"], (8, 9), True),
        (["sm_90a"], (9, 0), True),
        (["sm_90", "compute_90"], (12, 0), True),
        ([], (8, 0), False),
    ],
)
def test_a_build_has_code_for_a_card(
    built: list[str], capability: tuple[int, int], runs: bool
) -> None:
    assert runs_on(built, *capability) is runs


def test_a_program_that_is_missing_or_hangs_says_nothing() -> None:
    assert output("a-program-that-nobody-has") is None
    assert output("sleep", "5", seconds=0.1) is None
    assert output("echo", "yes") == "yes\n"
