"""A ptxas that knows this GPU: the assembler that Triton brings may be older than a new card."""

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from chatling.hardware.ask import Output, output

# what Triton reads, for Blackwell since 3.6 and else; and the assemblers that it brings for them
SETTINGS = ("TRITON_PTXAS_BLACKWELL_PATH", "TRITON_PTXAS_PATH")
BROUGHT = ("ptxas-blackwell", "ptxas")


def mend_ptxas(
    major: int,
    minor: int,
    *,
    triton: Path | None = None,
    ask: Output = output,
    environment: MutableMapping[str, str] = os.environ,
    root: Path = Path("/"),
) -> str | None:
    """Where Triton's assembler does not know a GPU of this capability, name it one of the system's
    that does. Returns what to tell of it; None where all is well or there is no Triton. `triton` is
    its folder.
    """
    spec = None if triton else importlib.util.find_spec("triton")
    triton = triton or (Path(spec.origin).parent if spec and spec.origin else None)
    if triton is None:
        return None
    # what architectures with features of their own are called since Hopper
    name = f"sm_{major}{minor}{'a' if major >= 9 else ''}"

    def knows(ptxas: str) -> bool:
        return re.search(rf"\b{name}\b", ask(ptxas, "--help") or "") is not None

    used = _used(triton, environment)
    if used is None or knows(used):
        return None
    what = f"Triton's assembler {used} does not know this GPU ({name})"
    for other in _others(root, environment):
        if other != used and knows(other):
            environment.update(dict.fromkeys(SETTINGS, other))
            return f"{what}: {other} is taken."
    return (
        f"{what}, and there is no other that does: compiled code will fail. Install the CUDA"
        " toolkit 13 or a newer Triton, or set machine.compile to off."
    )


def _used(triton: Path, environment: MutableMapping[str, str]) -> str | None:
    """The assembler that Triton takes for a new card."""
    for setting, name in zip(SETTINGS, BROUGHT, strict=True):
        brought = triton / "backends/nvidia/bin" / name
        found = environment.get(setting) or (str(brought) if brought.exists() else None)
        if found:
            return found
    return None


def _others(root: Path, environment: MutableMapping[str, str]) -> Iterator[str]:
    """Those of the system, the likeliest first."""
    homes = [Path(environment[key]) for key in ("CUDA_HOME", "CUDA_PATH") if environment.get(key)]
    homes += [root / "usr/local/cuda", *sorted((root / "usr/local").glob("cuda-*"), reverse=True)]
    yield from (str(home / "bin/ptxas") for home in homes if (home / "bin/ptxas").exists())
    if found := shutil.which("ptxas", path=environment.get("PATH")):
        yield found
