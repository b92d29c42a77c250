"""A record of the first run: how long it takes until it talks and until it is done, and what it
knows then, of a few seeds, in a folder that others can hold theirs against.
"""

import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chatling.errors import RunError
from chatling.files import home
from chatling.run_dir import RunFolder, read_json, write_atomic, write_json
from chatling.train.metrics import read_metrics
from chatling.train.status import duration
from chatling.version import __version__

RECIPE = "pocket"
SEEDS = (1, 2, 3)
TALKS = "sft"  # the stage after which it talks
TALK, WHOLE = "seconds to the first talk", "seconds of the whole run"
RECORD, PAGE = "record.json", "README.md"


@dataclass(frozen=True)
class Attempt:
    """One run: seconds by TALK and WHOLE, and right answers of the last model by skill."""

    seed: int
    seconds: Mapping[str, float]
    correct: Mapping[str, tuple[float, int]]


@dataclass(frozen=True)
class Record:
    """Runs of one recipe with different seeds on one machine."""

    machine: Mapping[str, Any]
    chatling: str
    date: str
    attempts: Sequence[Attempt]

    def rows(self) -> list[dict[str, Any]]:
        """Medians of the times, and the share of right answers to the questions of all seeds."""
        times = [
            {
                "measure": name,
                "value": statistics.median(each.seconds[name] for each in self.attempts),
                "unit": "s",
            }
            for name in (TALK, WHOLE)
        ]
        return times + [
            {
                "measure": skill,
                "value": 100 * sum(right for right, _ in pairs) / sum(total for _, total in pairs),
                "unit": "%",
            }
            for skill in self.attempts[0].correct
            for pairs in [[each.correct[skill] for each in self.attempts]]
        ]


def measure_record(
    folder: Path | None, options: Sequence[str] = (), recipe: str = RECIPE
) -> Record:
    """Train the recipe once a seed, each in a process and a home of its own, and tell how it goes.

    With `folder`, the record is written there (record.json, recipe.toml, one log a seed), and the
    table of all records in the folder above it. `options` are overrides of the recipe. Raises
    RunError when a run fails.
    """
    logs, frozen, attempts = {}, "", []
    machine: Mapping[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder_of_runs:
        for seed in SEEDS:
            print(f"seed {seed} …", flush=True)
            run = RunFolder(Path(folder_of_runs) / "runs" / f"seed-{seed}")
            # each seed compiles its own code, as a newcomer's run does
            own = {"TORCHINDUCTOR_CACHE_DIR": f"{folder_of_runs}/compiled-{run.name}"}
            words = ["--seed", str(seed), *options]
            logs[f"seed-{seed}.log"] = train_run(recipe, run, words, own)
            state = run.read_state()["stages"]
            attempts.append(Attempt(seed, _seconds(state), _correct(run, state)))
            found = [each["attempts"][0].get("machine") for each in state.values()]
            machine = next(filter(None, found), {})
            frozen = frozen or (run.path / "recipe.toml").read_text(encoding="utf-8")
    system = {"system": platform.platform(), "python": platform.python_version()}
    record = Record({**system, **machine}, __version__, time.strftime("%Y-%m-%d"), attempts)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, asdict(record))
        for name, text in {"recipe.toml": frozen, **logs}.items():
            write_atomic(folder / name, text)
        write_atomic(folder.parent / PAGE, "\n".join(page(folder.parent)))
    return record


def train_run(
    recipe: str,
    run: RunFolder,
    options: Sequence[str],
    variables: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Train a recipe in a process of its own, in the home that holds the run; returns what it
    printed. Raises RunError when it fails.
    """
    folder = str(run.path.parent.parent)
    command = [sys.executable, "-m", "chatling", "run", recipe, "--run", run.name, *options]
    done = subprocess.run(
        command,
        env={**os.environ, "CHATLING_HOME": folder, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        last = done.stdout.strip().splitlines()[-1:]
        raise RunError(f"The run of {recipe} ended with code {done.returncode}: {' '.join(last)}")
    return done.stdout.replace(folder, "HOME")


@contextmanager
def kept_home(name: str, *about: object) -> Iterator[Path]:
    """A home for the trainings of a measurement that takes long: an interrupted one about the same
    is resumed there. It is removed in the end.
    """
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
    folder = home() / "bench" / f"{name}-{key}"
    if folder.exists():
        print(f"Going on with the trainings in {folder}.", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def spent(run: RunFolder) -> float:
    """Seconds of all stages of a run."""
    return _seconds(run.read_state()["stages"])[WHOLE]


def held_out_loss(run: RunFolder) -> float:
    """Bits per byte of the finished base model, on held-out text."""
    lines = read_metrics(run.stage("base") / "metrics.jsonl")
    return float([line["val_bpb"] for line in lines if "val_bpb" in line][-1])


def _seconds(state: Mapping[str, Any]) -> dict[str, float]:
    """All stages until TALKS, and all; what is between the stages is less than a second each."""
    names = list(state)
    until = names.index(TALKS) + 1 if TALKS in names else len(names)
    spent = [state[name]["seconds"] for name in names]
    return {TALK: round(sum(spent[:until]), 1), WHOLE: round(sum(spent), 1)}


def _correct(run: RunFolder, state: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
    """Of the last model that answered questions."""
    for name in reversed(tuple(state)):
        if (path := run.evals / f"{name}-chat.json").exists():
            rows = read_json(path)["results"]
            return {row["name"]: (row["correct"], row["total"]) for row in rows}
    return {}


def page(folder: Path) -> Iterator[str]:
    """The table of all records in a folder, the quickest one first."""
    found = {}
    for path in folder.glob(f"*/{RECORD}"):
        data = json.loads(path.read_text(encoding="utf-8"))
        attempts = [Attempt(**each) for each in data.pop("attempts")]
        found[path.parent.name] = Record(**data, attempts=attempts)
    yield "# Records of the first run\n"
    yield "Medians of the times, right answers of all seeds together. One more:"
    yield f"`chatling bench {RECIPE} --record FOLDER`.\n"
    by_time = sorted(found.items(), key=lambda item: item[1].rows()[1]["value"])
    skills = list(dict.fromkeys(row["measure"] for _, each in by_time for row in each.rows()[2:]))
    yield "| record | date | machine | talks after | done after | " + " | ".join(skills) + " |"
    yield "| --- " * (5 + len(skills)) + "|"
    for name, record in by_time:
        values = {row["measure"]: row["value"] for row in record.rows()}
        cells = [f"[{name}]({name}/recipe.toml)", record.date]
        cells += [f"{record.machine.get('name', '')}, {record.machine.get('cores', '?')} cores"]
        cells += [duration(values[TALK]), duration(values[WHOLE])]
        cells += [f"{values[skill]:.1f}" if skill in values else "" for skill in skills]
        yield "| " + " | ".join(cells) + " |"
    yield ""
