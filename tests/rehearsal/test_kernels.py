"""Kernels of compiled training compile for GPUs that are not here, within their shared memory."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernels
HERE = Path(__file__).parent
SHARED = {90: 232_448, 121: 101_376}  # bytes of a block on H100 and GB10
TEMPLATES = {"sdpa": 0, "flex": 2}  # attention's own kernels: forward and backward
BLOCKS = [
    {"preset": preset, "kernel": kernel, "head_width": width}
    for preset, kernel in (("classic", "sdpa"), ("modern", "flex"))
    for width in (64, 128, 256)
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CUDA that does nothing; skips where something is missing that the kernels are built by."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler, which a CUDA that does nothing is built with")
    found = importlib.util.find_spec("triton")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no Triton: pip install triton")
    if not list(Path(found.submodule_search_locations[0]).glob("backends/nvidia/bin/ptxas*")):
        pytest.skip("this Triton comes without ptxas")
    folder = tmp_path_factory.mktemp("kernels")
    build = "import sys, pathlib, fake_cuda; fake_cuda.build(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, folder], cwd=HERE, check=True)
    return folder / "no_cuda.so"


def built(library: Path, capability: int, **case: Any) -> list[dict[str, Any]]:
    """In a process of its own: a GPU can be shown to torch only once."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "build_kernels.py", library],
        input=json.dumps({"capability": capability, **case}),
        capture_output=True,
        text=True,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(kernels: list[dict[str, Any]], capability: int) -> None:
    assert [kernel for kernel in kernels if "error" in kernel] == []
    too_large = [kernel for kernel in kernels if kernel["shared"] > SHARED[capability]]
    assert too_large == []
    assert all(kernel["bytes"] > 0 for kernel in kernels)


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("case", BLOCKS, ids=lambda case: f"{case['kernel']}-{case['head_width']}")
def test_blocks_fit_shared_memory(library: Path, capability: int, case: dict[str, Any]) -> None:
    kernels = built(library, capability, **case)
    check(kernels, capability)
    names = {kernel["kernel"] for kernel in kernels}
    assert sum("_tem_" in name for name in names) == TEMPLATES[case["kernel"]]
    assert any("backward" in name for name in names)
    assert len(names) > 8


@pytest.mark.parametrize("capability", SHARED)
def test_the_loss_fits_shared_memory(library: Path, capability: int) -> None:
    kernels = built(library, capability)
    check(kernels, capability)
    assert len(kernels) >= 2
