"""What a run looks like while it runs: a live line on a terminal, plain lines elsewhere, nothing
from ranks above the first.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from chatling.train.metrics import tokens_per_second
from chatling.train.status import duration

PLAIN_SECONDS = 5.0  # between lines where the output is no terminal
LIVE_SECONDS = 0.1
RECENT = 50  # steps that the speed is measured over


def figures(metrics: Mapping[str, Any]) -> str:
    """The metrics that a reader follows, in one short line."""
    forms = {
        "loss": "loss {:.3f}",
        "val_loss": "validation {:.3f}",
        "val_bpb": "bpb {:.4f}",
        "val_accuracy": "accuracy {:.1%}",
        "core": "CORE {:.3f}",
        "tokens_per_second": "{:,.0f} tokens/s",
        "gemm_fraction": "{:.0%} of GEMM rate",
    }
    return " · ".join(
        form.format(metrics[key])
        for key, form in forms.items()
        if isinstance(metrics.get(key), int | float)
    )


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Shows stages and their steps; the training loop's reporter. Ranks above the first are
    `silent`.

    `work` weighs the run's training stages against one another (in FLOPs), for the time left of the
    whole run.
    """

    def __init__(
        self,
        *,
        silent: bool = False,
        console: Console | None = None,
        work: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._silent, self._console, self._clock = silent, console or Console(), clock
        self._work = dict(work or {})
        self._flops_per_token, self._peak = 0.0, 0.0
        self._fastest = (
            0.0  # work a second of the stage that did most of it: later ones are judged by that
        )
        self._name, self._steps, self._at, self._begun = "", 0, 0, 0
        self._metrics: dict[str, Any] = {}
        # (clock, steps done, the step's metrics)
        self._recent: deque[tuple[float, int, Mapping[str, Any]]] = deque(maxlen=RECENT)
        self._shown = float("-inf")
        self._live: Live | None = None

    def __exit__(self, *error: object) -> None:
        self._close()

    def machine(self, flops_per_token: float, flops_per_second: float) -> None:
        """What a token costs, and the measured rate of matrix products: their share is shown."""
        self._flops_per_token, self._peak = flops_per_token, flops_per_second

    def message(self, text: str) -> None:
        """A line that stays."""
        if not self._silent:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def start(self, stage: str, steps: int, done: int) -> None:
        """A stage of `steps` steps begins, or resumes after `done` of them."""
        self._close()
        self._name, self._steps, self._at, self._begun, self._metrics = stage, steps, done, done, {}
        self._recent.clear()
        self._recent.append((self._clock(), done, {}))
        self._shown = float("-inf")
        self.message(
            f"{stage}: resumes after step {done:,} of {steps:,}"
            if done
            else f"{stage}: {steps:,} steps"
        )
        if not self._silent and self._console.is_terminal:
            self._live = Live(
                self._line(), console=self._console, auto_refresh=False, transient=True
            )
            self._live.start()

    def step(self, metrics: dict[str, Any]) -> None:
        """One line of the metrics log: `step` counts from 0. A validation result stays in view
        until the next one.
        """
        if self._silent:
            return
        now = self._clock()
        if metrics["step"] == self._begun:
            self._recent.clear()  # a stage's first step may compile: time is taken from its end on
        self._at = metrics["step"] + 1
        self._metrics.update(metrics)
        self._recent.append((now, self._at, metrics))
        if speed := tokens_per_second([line for _, _, line in self._recent][1:]):
            self._metrics["tokens_per_second"] = speed
            if self._peak:
                self._metrics["gemm_fraction"] = speed * self._flops_per_token / self._peak
        if (
            now - self._shown < (LIVE_SECONDS if self._live else PLAIN_SECONDS)
            and self._at < self._steps
        ):
            return
        self._shown = now
        if self._live:
            self._live.update(self._line(), refresh=True)
        else:
            self.message(self._line().plain)

    def stage_done(self, name: str, seconds: float) -> None:
        """A stage ended well, after `seconds` in all its attempts."""
        self._close()
        self._fastest = max(self._fastest, self._work.pop(name, 0.0) / max(seconds, 1e-9))
        summary = figures(self._metrics) if name == self._name else ""
        self.message(f"{name}: done in {duration(seconds)}{' · ' + summary if summary else ''}")

    def time_left(self) -> tuple[float | None, float | None]:
        """Seconds left of the stage and of the whole run, as far as the recent speed tells.

        The speed of later stages is that of the fastest so far: the padded batches of SFT say
        little about other stages.
        """
        if len(self._recent) < 2 or self._recent[-1][1] == self._recent[0][1]:
            return None, None
        (begin, first, _), (now, last, _) = self._recent[0], self._recent[-1]
        per_step = (now - begin) / (last - first)
        stage = (self._steps - self._at) * per_step
        mine = self._work.get(self._name)
        if not mine:
            return stage, None
        names = list(self._work)
        later = sum(self._work[name] for name in names[names.index(self._name) + 1 :])
        return stage, stage + later / max(self._fastest, mine / (per_step * self._steps))

    def _line(self) -> Text:
        stage, whole = self.time_left()
        parts = [f"{self._name} {self._at:,}/{self._steps:,}"]
        if self._console.is_terminal:
            filled = round(20 * self._at / self._steps) if self._steps else 20
            parts[0] = f"{'━' * filled}{'╌' * (20 - filled)} {parts[0]}"
        if text := figures(self._metrics):
            parts.append(text)
        if stage is not None:
            parts.append(f"{duration(stage)} left")
            if whole is not None and whole > stage:
                parts[-1] += f", {duration(whole)} of the whole run"
        return Text(" · ".join(parts), no_wrap=True, overflow="ellipsis")

    def _close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None
