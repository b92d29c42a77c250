"""The one operation that is written in C++: attention while decoding on a processor. Built by the
user's compiler at first use.
"""

import functools
import hashlib
import logging
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from chatling.hardware.detect import find_compiler

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("attend_one.cpp")
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fopenmp-simd", "-shared", "-fPIC")


def attend_one(q: Tensor, keys: Tensor, values: Tensor, positions: Tensor, window: int) -> Tensor:
    """Attention of one query a row, q (B, H, E) in fp32, over keys and values (at least B, K, L, E)
    in fp32 or bf16; returns (B, H, E).

    Row b sees the places 0 to positions[b], of these the last `window` where that is not 0.
    `available` must have said yes.
    """
    out = torch.ops.chatling.attend_one(q, keys, values, positions, window)
    assert isinstance(out, Tensor)
    return out


@functools.cache
def available() -> bool:
    """Whether the operation is there. Builds it in two seconds, once for a machine and version of
    PyTorch; says so where that fails.
    """
    compiler = find_compiler()
    if compiler is None:
        return False
    try:
        torch.ops.load_library(_library(compiler))
    except (
        OSError,
        subprocess.CalledProcessError,
    ) as error:  # a compiler that is too old, a folder that cannot be written to
        log.warning(
            "Attention in C++ could not be built, answers come slower: %s %s",
            error,
            getattr(error, "stderr", "")[-500:],
        )
        return False
    torch.library.register_fake(
        "chatling::attend_one", lambda q, keys, values, positions, window: torch.empty_like(q)
    )
    return True


def _library(compiler: str) -> Path:
    """The compiled file, in PyTorch's folder for such; other processes may be building it at the
    same time.
    """
    from torch.utils import cpp_extension

    includes = [part for path in cpp_extension.include_paths() for part in ("-isystem", path)]
    links = [f"-L{path}" for path in cpp_extension.library_paths()]
    command = [compiler, *FLAGS, *includes, str(SOURCE), *links, "-ltorch_cpu"]
    # with -march=native the file is good for this kind of processor only, and folders may be shared
    # between machines
    key = repr(
        (
            command,
            SOURCE.read_text(encoding="utf-8"),
            torch.__version__,
            platform.node(),
            torch.backends.cpu.get_cpu_capability(),
        )
    )
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
    library = folder / f"chatling-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            subprocess.run(
                [*command, "-o", f"{scratch}/built.so"], check=True, capture_output=True, text=True
            )
            os.replace(f"{scratch}/built.so", library)
    return library
