"""Fake tensors on "cuda" with a build of torch that has no CUDA. Import before torch."""

import ctypes
import importlib.util
import subprocess
import sys
from pathlib import Path

assert "torch" not in sys.modules
_spec = importlib.util.find_spec("torch")
assert _spec is not None
assert _spec.origin is not None
TORCH = Path(_spec.origin).parent


def build(folder: Path) -> Path:
    """Compile no_cuda.cpp against the installed torch: about 10 s."""
    library = folder / "no_cuda.so"
    include = TORCH / "include"
    command = [
        "c++",
        "-shared",
        "-fPIC",
        "-O0",
        "-std=c++20",
        Path(__file__).with_name("no_cuda.cpp"),
    ]
    command += ["-o", library, "-I", include, "-I", include / "torch/csrc/api/include"]
    subprocess.run([*command, "-L", TORCH / "lib", "-lc10", "-ltorch_cpu"], check=True)
    return library


def load(library: Path) -> None:
    if list((TORCH / "lib").glob("libtorch_cuda*")):
        return
    for name in ("libtorch_global_deps.so", "libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(TORCH / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
