"""Experiment trackers behind one adapter. `metrics.jsonl` is always written; a tracker gets the
same lines besides, without a network.

Each is an optional extra (`pip install "chatling[wandb]"`). They keep what they are told on this
machine: TensorBoard, wandb and swanlab in the run folder's `tracker/`, trackio in its own store.
Uploading is the user's: `wandb sync`, `swanlab sync`, `trackio sync`.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from chatling.config.stages import TrackerName

PROJECT = "chatling"


class Backend(Protocol):
    """What the run objects of trackio, wandb and swanlab have in common."""

    def log(self, values: dict[str, float], *, step: int) -> Any: ...
    def finish(self) -> Any: ...


class Tracker:
    """Sends numbers to a backend. A backend that fails, in whatever way, is reported once and left
    alone: it must not end a run.
    """

    def __init__(
        self, name: TrackerName, run: str, stage: str, folder: Path, say: Callable[[str], None]
    ):
        """`folder` is where the backend may write; `say` hears of a failure."""
        self._name, self._run, self._stage, self._folder, self._say = name, run, stage, folder, say
        self._backend: Backend | None = None

    def start(self, step: int) -> None:
        """Open the backend, for steps from `step` on."""
        if self._name != "none":
            self._try(lambda: self._open(step))

    def log(self, line: Mapping[str, Any]) -> None:
        """The numbers of one line of `metrics.jsonl`."""
        if self._backend is not None:
            values = {
                f"{self._stage}/{key}": float(value)
                for key, value in line.items()
                if key != "step" and _is_number(value)
            }
            self._try(lambda: self._backend and self._backend.log(values, step=line["step"]))

    def close(self) -> None:
        if self._backend is not None:
            self._try(self._backend.finish)
        self._backend = None

    def _open(self, step: int) -> None:
        label = f"{self._run}-{self._stage}"
        if self._name == "tensorboard":
            self._backend = _TensorBoard(self._folder, step)
            return
        module = importlib.import_module(self._name)
        self._folder.mkdir(parents=True, exist_ok=True)
        where = str(self._folder)
        settings: dict[str, dict[str, Any]] = {
            "wandb": {"name": label, "mode": "offline", "dir": where},
            "swanlab": {"experiment_name": label, "mode": "offline", "logdir": where},
            "trackio": {"name": label, "resume": "allow", "embed": False},
        }
        self._backend = module.init(project=PROJECT, **settings[self._name])

    def _try(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except ImportError:
            self._give_up(f'{self._name} is not installed (`pip install "chatling[{self._name}]"`)')
        except Exception as error:
            self._give_up(f"{self._name} failed ({type(error).__name__}: {error})")

    def _give_up(self, why: str) -> None:
        self._backend = None
        self._say(f"{self._stage}: {why}; training continues, and metrics.jsonl has every line.")


class _TensorBoard:
    """TensorBoard's writer in the words of the others."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        # What a killed attempt wrote of later steps is not shown: they come again.
        self._writer = SummaryWriter(str(folder), purge_step=step or None, flush_secs=10)

    def log(self, values: dict[str, float], *, step: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def finish(self) -> None:
        self._writer.close()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
