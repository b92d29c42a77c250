"""What a finished run came to, as bits: hashes of weights, metrics, evaluations and report numbers,
of tiny runs of every stage.

`python tests/e2e/golden.py` trains the runs and compares them with `golden.json` beside this file;
`--record` writes it anew. A change
of structure leaves all of it as it is. Names of keys do not enter a hash, so that a field may be
renamed; times do not, either.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

GOLDEN = Path(__file__).with_name("golden.json")
STAGES = ("base", "mid", "sft", "dpo", "rl")
RUNS = {  # name: processes, overrides
    "classic": (1, ()),
    "modern": (1, ("--model.preset", "modern")),
    "two-processes": (2, ()),
}
TIMES = re.compile(r"seconds|time|memory|utilization|_at$|second|machine|version")


def machine() -> dict[str, str]:
    """What bits depend on besides the code: the processor and the library."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    cpu = f"{model[1] if model else platform.processor()} {torch.backends.cpu.get_cpu_capability()}"
    return {"cpu": cpu, "torch": torch.__version__.partition("+")[0]}


def digest(run: Path) -> dict[str, Any]:
    """The hashes of a run folder, with the last loss of each stage, which may be compared on any
    machine.
    """
    found: dict[str, Any] = {"weights": {}, "metrics": {}, "loss": {}, "evals": {}}
    for stage in STAGES:
        tensors = load_file(run / stage / "model/model.safetensors")
        weights = hashlib.sha256()
        for name in sorted(tensors):
            weights.update(tensors[name].tobytes())
        lines = [
            json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()
        ]
        found["weights"][stage] = weights.hexdigest()[:16]
        found["metrics"][stage] = _hash(lines)
        found["loss"][stage] = [line["loss"] for line in lines if "loss" in line][-1]
    for file in sorted((run / "evals").iterdir()):
        text = file.read_text()
        found["evals"][file.name] = _hash(
            [json.loads(line) for line in text.splitlines()]
            if file.suffix == ".jsonl"
            else json.loads(text)
        )
    section = (
        (run / "report/report.md")
        .read_text()
        .partition("## How good it is")[2]
        .partition("\n## What it says")[0]
    )
    found["report"] = _hash(re.findall(r"-?\d+(?:\.\d+)?", section))
    return found


def _hash(value: Any) -> str:
    return hashlib.sha256("\n".join(_values(value)).encode()).hexdigest()[:16]


def _values(value: Any) -> Iterator[str]:
    """The leaves, those of an object in the order of their texts, since its keys may be renamed."""
    if isinstance(value, dict):
        yield from sorted(
            "\n".join(_values(item)) for key, item in value.items() if not TIMES.search(key)
        )
    elif isinstance(value, list):
        for item in value:
            yield from _values(item)
    else:
        yield repr(value)


def train(name: str, home: Path, tiny: list[str]) -> Path:
    """Train one of RUNS below `home`; returns its folder."""
    processes, overrides = RUNS[name]
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    command = [
        sys.executable,
        *launcher,
        "-m",
        "chatling",
        "run",
        "pocket",
        "--name",
        name,
        *tiny,
        *overrides,
    ]
    environment = {**os.environ, "CHATLING_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return home / "runs" / name


def main() -> int:
    from conftest import ALIGNED, TINY

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        tiny = [*TINY, *ALIGNED, "--machine.dtype", "float32"]
        found = {
            "machine": machine(),
            "runs": {name: digest(train(name, Path(home), tiny)) for name in RUNS},
        }
    if given.record:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    wanted = json.loads(GOLDEN.read_text())
    differing = [
        f"{name} {kind}"
        for name, run in found["runs"].items()
        for kind, value in run.items()
        if value != wanted["runs"].get(name, {}).get(kind)
    ]
    print("equal" if not differing else "differ: " + ", ".join(differing))
    return bool(differing)


if __name__ == "__main__":
    raise SystemExit(main())
