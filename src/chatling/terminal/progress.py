"""What a run looks like while it runs: a live line on a terminal, plain lines elsewhere, nothing
from ranks above the first.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from chatling.evals.samples import Sample
from chatling.train.metrics import tokens_per_second
from chatling.train.status import duration

PLAIN_SECONDS = 5.0  # between lines where the output is no terminal
LIVE_SECONDS = 0.1
BEAT_SECONDS = 1.0  # between looks whether something is to be shown though nothing was reported
QUIET_SECONDS = 15.0  # after which the line is shown again where the output is no terminal
STEP_SECONDS = 3.0  # after which a step's own time is shown, too
RECENT = 50  # steps that the speed is measured over
WIDE = 100  # columns of a sample where the output is no terminal
MARKS = {True: "✓", False: "✗", None: " "}


def figures(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics that a reader follows, the first ones first."""
    forms = {
        "loss": "loss {:.3f}",
        "val_loss": "validation {:.3f}",
        "val_bpb": "bpb {:.4f}",
        "val_accuracy": "accuracy {:.1%}",
        "core": "CORE {:.3f}",
        "tokens_per_second": "{:,.0f} tokens/s",
        "gemm_fraction": "{:.0%} of GEMM rate",
    }
    return [
        form.format(metrics[key])
        for key, form in forms.items()
        if isinstance(metrics.get(key), int | float)
    ]


def fitted(fields: Sequence[str], width: int) -> str:
    """The fields in one line of at most `width` columns: those that do not fit are left out whole,
    the first one never.
    """
    line = fields[0]
    for field in fields[1:]:
        if cell_len(longer := f"{line} · {field}") <= width:
            line = longer
    return line


def sample_line(sample: Sample, width: int) -> str:
    """A prompt and what the model makes of it now, in one line of at most `width` columns."""
    prompt, text = (" ".join(said.split()) for said in (sample.prompt, sample.text))
    mark = MARKS[sample.right]
    return _cut(f"  {mark} {_cut(prompt, width // 2)} → {text or '(nothing)'}", width)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Shows stages and their steps; the training loop's reporter. Ranks above the first are
    `silent`.

    `work` weighs the run's training stages against one another (in FLOPs), for the time left of the
    whole run. As a context it also shows, between reports, that it is alive.
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
        self._flops_per_token, self._peak, self._expected = 0.0, 0.0, 0.0
        self._fastest = (
            0.0  # work a second of the stage that did most of it: later ones are judged by that
        )
        self._name, self._steps, self._at, self._begun = "", 0, 0, 0
        self._metrics: dict[str, Any] = {}
        # (clock, steps done, the step's metrics)
        self._recent: deque[tuple[float, int, Mapping[str, Any]]] = deque(maxlen=RECENT)
        # the current work besides steps, how much of how much of it is done, and since when
        self._activity, self._counted, self._since = "", (0, 0), 0.0
        self._shown = float("-inf")
        self._live: Live | None = None
        self._samples: list[str] = []  # what the model says now, below the line
        self._lock, self._over = threading.RLock(), threading.Event()

    def __enter__(self) -> "Progress":
        if not self._silent:
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        with self._lock:
            self._end()

    def machine(self, flops_per_token: float, peak: float, expected: float) -> None:
        """What a token costs; the measured rate of matrix products, of which the share reached is
        shown; and the FLOPs a second that are expected until steps were timed.
        """
        self._flops_per_token, self._peak, self._expected = flops_per_token, peak, expected

    def message(self, text: str) -> None:
        """A line that stays."""
        if not self._silent:
            with self._lock:
                self._shown = self._clock()
                self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def activity(self, name: str, done: int = 0, total: int = 0) -> None:
        """The current work, until the next activity or step. Called again as it advances, with how
        much of how much is done.
        """
        if self._silent:
            return
        with self._lock:
            if name != self._activity:
                self._activity, self._since = name, self._clock()
            self._counted = done, total
            self._open()
            self._show()

    def start(self, stage: str, steps: int, done: int) -> None:
        """A stage of `steps` steps begins, or resumes after `done` of them."""
        with self._lock:
            self._end()
            self._name, self._steps, self._at, self._begun = stage, steps, done, done
            self._metrics, self._samples = {}, []
            self._recent.clear()
            self._recent.append((self._clock(), done, {}))
            self.message(
                f"{stage}: resumes after step {done:,} of {steps:,}"
                if done
                else f"{stage}: {steps:,} steps"
            )
            self._open()

    def step(self, metrics: dict[str, Any]) -> None:
        """One line of the metrics log: `step` counts from 0. A validation result stays in view
        until the next one.
        """
        if self._silent:
            return
        with self._lock:
            now = self._clock()
            first = metrics["step"] == self._begun
            if first:
                # a stage's first step may compile: time is taken from its end on
                self._recent.clear()
            self._activity, self._at = "", metrics["step"] + 1
            self._metrics.update(metrics)
            self._recent.append((now, self._at, metrics))
            if speed := tokens_per_second([line for _, _, line in self._recent][1:]):
                self._metrics["tokens_per_second"] = speed
                if self._peak:
                    self._metrics["gemm_fraction"] = speed * self._flops_per_token / self._peak
            self._show(always=first or self._at == self._steps)

    def samples(self, found: Sequence[Sample]) -> None:
        """What the model makes of fixed prompts now: below the line until the next time, and kept
        where the output is no terminal.
        """
        if self._silent:
            return
        with self._lock:
            width = self._console.width if self._console.is_terminal else WIDE
            self._samples = [sample_line(each, width) for each in found]
            if self._live is None:
                self._keep_samples()

    def _keep_samples(self) -> None:
        for line in self._samples:
            self.message(line)
        self._samples = []

    def stage_done(self, name: str, seconds: float) -> None:
        """A stage ended well, after `seconds` in all its attempts."""
        with self._lock:
            self._end()
            self._keep_samples()
            self._fastest = max(self._fastest, self._work.pop(name, 0.0) / max(seconds, 1e-9))
            summary = figures(self._metrics) if name == self._name else []
            self._name = ""
            self.message(" · ".join([f"{name}: done in {duration(seconds)}", *summary]))

    def heartbeat(self) -> None:
        """Show the current work again, where nothing was shown for a while."""
        with self._lock:
            if self._live:
                self._live.update(self._view(), refresh=True)
            elif self._activity or self._name:
                self._show(after=QUIET_SECONDS)

    def time_left(self) -> tuple[float | None, float | None]:
        """Seconds left of the stage and of the whole run, as far as the recent speed tells; before
        there is one, as the plan has it.

        The speed of later stages is that of the fastest so far: the padded batches of SFT say
        little about other stages.
        """
        mine, per_step = self._work.get(self._name, 0.0), 0.0
        if len(self._recent) >= 2 and self._recent[-1][1] != self._recent[0][1]:
            (begin, first, _), (now, last, _) = self._recent[0], self._recent[-1]
            per_step = (now - begin) / (last - first)
        elif speed := self._fastest or self._expected:
            per_step = mine / speed / max(self._steps, 1)
        if not per_step:
            return None, None
        stage = (self._steps - self._at) * per_step
        if not mine:
            return stage, None
        names = list(self._work)
        later = sum(self._work[name] for name in names[names.index(self._name) + 1 :])
        return stage, stage + later / max(self._fastest, mine / (per_step * self._steps))

    def _view(self) -> Group:
        return Group(self._line(), *(Text(line, style="dim") for line in self._samples))

    def _line(self) -> Text:
        width = self._console.width if self._console.is_terminal else 1000
        return Text(fitted(self._activity_fields() or self._step_fields(), width), overflow="fold")

    def _activity_fields(self) -> list[str]:
        """Empty while steps are reported."""
        if not self._activity:
            return []
        spent, (done, total) = self._clock() - self._since, self._counted
        what = f"{self._activity} {done:,}/{total:,}" if total else self._activity
        left = [f"{duration(spent * (total - done) / done)} left"] if done else self._planned()
        return [*(left or ["– left"]), what, f"{duration(spent)} so far"]

    def _planned(self) -> list[str]:
        """What is left of the whole run as the plan has it, for work that says nothing itself."""
        speed, left = self._fastest or self._expected, sum(self._work.values())
        return [f"{duration(left / speed)} of the whole run"] if speed and left else []

    def _step_fields(self) -> list[str]:
        stage, whole = self.time_left()
        fields = [f"{duration(stage)} left", f"{self._name} {self._at:,}/{self._steps:,}"]
        pause = self._clock() - self._recent[-1][0]
        if pause >= STEP_SECONDS:
            what = "first step, with compilation" if self._at == self._begun else "this step"
            what = "saving" if self._at == self._steps else what
            fields.append(f"{what}: {duration(pause)} so far")
        if stage is not None and whole is not None and whole > stage:
            fields.append(f"{duration(whole)} of the whole run")
        fields += figures(self._metrics)
        if self._console.is_terminal:
            filled = round(20 * self._at / self._steps) if self._steps else 20
            fields.append(f"{'━' * filled}{'╌' * (20 - filled)}")
        return fields

    def _show(self, *, always: bool = False, after: float | None = None) -> None:
        """The line, if it is time for one."""
        now = self._clock()
        if after is None:
            after = LIVE_SECONDS if self._live else PLAIN_SECONDS
        if always or now - self._shown >= after:
            self._shown = now
            if self._live:
                self._live.update(self._view(), refresh=True)
            else:
                self.message(self._line().plain)

    def _open(self) -> None:
        if self._live is None and not self._silent and self._console.is_terminal:
            self._live = Live(
                self._view(), console=self._console, auto_refresh=False, transient=True
            )
            self._live.start()

    def _end(self) -> None:
        """Remove the line of the current work."""
        self._activity = ""
        if self._live:
            self._live.stop()
            self._live = None

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self.heartbeat()
