"""Which assembler Triton is given, on machines that the test makes up."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatling.hardware.ptxas import SETTINGS, mend_ptxas

HELP = """--gpu-name <gpu name>                           (-arch)
        Allowed values for this option:  {}.
        Default value:  'sm_75'."""
OLD, NEW = "'sm_90','sm_90a','sm_100a','sm_120'", "'sm_90','sm_90a','sm_120a','sm_121','sm_121a'"


class Box:
    """A file system with assemblers, each of which knows some architectures."""

    def __init__(self, root: Path):
        self.root, self.triton, self.known = root, root / "triton", dict[str, str]()
        self.environment: dict[str, str] = {"PATH": str(root / "usr/bin")}

    def put(self, place: str, known: str) -> str:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
        self.known[str(path)] = known
        return str(path)

    def ask(self, *words: str) -> str | None:
        return HELP.format(self.known[words[0]]) if words[0] in self.known else None

    def mend(self, major: int = 12, minor: int = 1) -> str | None:
        return mend_ptxas(
            major,
            minor,
            triton=self.triton,
            ask=self.ask,
            environment=self.environment,
            root=self.root,
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_one_that_knows_the_card_is_left_alone(box: Box) -> None:
    assert box.mend() is None  # no Triton
    box.put("triton/backends/nvidia/bin/ptxas", OLD)
    assert box.mend(9, 0) is None
    box.put("triton/backends/nvidia/bin/ptxas-blackwell", NEW)
    assert box.mend() is None
    assert box.environment.keys() == {"PATH"}


@pytest.mark.parametrize(
    "place", ["usr/local/cuda/bin/ptxas", "usr/local/cuda-13.0/bin/ptxas", "usr/bin/ptxas"]
)
def test_the_system_s_is_taken_where_it_knows_more(box: Box, place: str) -> None:
    used = box.put("triton/backends/nvidia/bin/ptxas", OLD)
    box.put("usr/local/cuda-12.9/bin/ptxas", OLD)
    found = box.put(place, NEW)
    said = box.mend()
    assert said == f"Triton's assembler {used} does not know this GPU (sm_121a): {found} is taken."
    assert [box.environment[each] for each in SETTINGS] == [found, found]
    assert box.mend() is None


def test_sm_121_alone_is_not_sm_121a(box: Box) -> None:
    box.put("triton/backends/nvidia/bin/ptxas", "'sm_121','sm_120a'")
    assert "does not know this GPU" in (box.mend() or "")


def test_where_none_knows_it_that_is_said(box: Box) -> None:
    box.put("triton/backends/nvidia/bin/ptxas", OLD)
    box.put("usr/bin/ptxas", OLD)
    assert "there is no other that does" in (box.mend() or "")
    assert box.environment.keys() == {"PATH"}


def test_the_user_s_choice_is_what_is_asked(box: Box) -> None:
    box.put("triton/backends/nvidia/bin/ptxas-blackwell", NEW)
    box.environment["TRITON_PTXAS_BLACKWELL_PATH"] = box.put("opt/ptxas", OLD)
    found = box.put("usr/bin/ptxas", NEW)
    assert "opt/ptxas does not know this GPU" in (box.mend() or "")
    assert box.environment["TRITON_PTXAS_BLACKWELL_PATH"] == found
