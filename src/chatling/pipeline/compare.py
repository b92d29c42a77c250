"""Two recipes held against each other: base of both, trained with the same seeds on as many tokens
or for as many seconds, and what a paired test says of their losses.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chatling.bench.paired import FEWEST, paired_p
from chatling.config.recipe import find_recipe, load_recipe, read_text
from chatling.pipeline.record import RECORD, held_out_loss, kept_home, spent, train_run
from chatling.run_dir import RunFolder, write_atomic, write_json
from chatling.train.metrics import read_metrics
from chatling.train.scaling import base_batch, base_tokens
from chatling.train.status import duration
from chatling.version import __version__

NAME, PAGE, FILES = "compare", "README.md", ("first.toml", "second.toml")
PROBE = 30  # steps by which speeds are compared
# evaluated and saved in the end
AT_THE_END = ("--loop.save-every", "0", "--loop.evaluate-every", "0")
LATER = ("extend", "mid", "sft", "distill", "dpo", "rl", "eval")


@dataclass(frozen=True)
class Trial:
    """A seed: bits per byte of held-out text, steps and seconds of training, of both recipes."""

    seed: int
    loss: tuple[float, float]
    steps: tuple[int, int]
    seconds: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """The trials of two recipes."""

    recipes: tuple[str, str]
    equal: str
    trials: Sequence[Trial]

    @property
    def differences(self) -> list[float]:
        """The first recipe's loss less the second's, of each seed."""
        return [each.loss[0] - each.loss[1] for each in self.trials]

    @property
    def change(self) -> float:
        """The mean difference, as a share of the second's loss."""
        return statistics.fmean(self.differences) / self._mean("loss", 1)

    @property
    def p(self) -> float | None:
        """Of Student's paired test, on both sides; None for a single seed."""
        return paired_p(self.differences) if len(self.trials) >= FEWEST else None

    def _mean(self, name: str, side: int) -> float:
        return statistics.fmean(getattr(each, name)[side] for each in self.trials)

    def rows(self) -> list[dict[str, Any]]:
        """Means, their difference and its p."""
        rows: list[dict[str, Any]] = [
            {"measure": f"{recipe}: {measure}", "value": self._mean(name, side), "unit": unit}
            for side, recipe in enumerate(self.recipes)
            for name, measure, unit in (
                ("loss", "loss", "bpb"),
                ("steps", "steps", ""),
                ("seconds", "training", "s"),
            )
        ]
        rows.append({"measure": "difference", "value": 100 * self.change, "unit": "%"})
        if self.p is not None:
            rows.append({"measure": "p, paired, both sides", "value": self.p, "unit": ""})
        return rows


def measure_comparison(
    recipes: tuple[str, str],
    seeds: int,
    folder: Path | None,
    *,
    equal: str = "tokens",
    data: Path | None = None,
    options: Sequence[str] = (),
) -> Comparison:
    """Train base of both recipes with so many seeds, each in a process of its own. Both see as many
    tokens as the first one asks for; or with `equal` "seconds" the second gets the steps for which
    the first one's seconds are enough. `data` is a folder of text instead of the recipes' own,
    `options` are overrides of both. With `folder`, the record is written there. An interrupted
    measurement is resumed.

    Raises RecipeError for recipes that cannot be read, RunError when a run fails.
    """
    words = [*AT_THE_END, *options, *(["--data.source", str(data)] if data else [])]
    loaded = [load_recipe(recipe, words) for recipe in recipes]
    batches = [
        base_batch(r.base, r.model.resolve(r.tokenizer.vocab_size), r.model.preset) for r in loaded
    ]
    tokens = base_tokens(loaded[0])
    steps = [max(1, round(tokens / batch)) for batch in batches]
    texts = [read_text(find_recipe(recipe)) for recipe in recipes]
    trials: list[Trial] = []
    machine: Mapping[str, Any] = {}
    took = 0.0
    with kept_home(NAME, texts, words) as home:
        alone = [_base_alone(recipe, home, side) for side, recipe in enumerate(recipes)]
        if equal == "seconds":
            each = [
                _seconds(_train(recipe, home, 0, PROBE, words, side))
                for side, recipe in enumerate(alone)
            ]
            steps[1] = max(1, round(steps[0] * each[0] / each[1]))
        for seed in range(1, seeds + 1):
            runs = [
                _train(recipe, home, seed, count, words, side)
                for side, (recipe, count) in enumerate(zip(alone, steps, strict=True))
            ]
            loss, time_of = ([value(run) for run in runs] for value in (held_out_loss, _seconds))
            trials.append(
                Trial(seed, (loss[0], loss[1]), (steps[0], steps[1]), (time_of[0], time_of[1]))
            )
            took += sum(map(spent, runs))
            left = took * (seeds / seed - 1)
            print(
                f"seed {seed}: {loss[0]:.4f} and {loss[1]:.4f} bpb ({loss[0] / loss[1] - 1:+.2%})"
                f" · {duration(left)} left",
                flush=True,
            )
            machine = runs[0].read_state()["stages"]["base"]["attempts"][-1].get("machine", {})
    found = Comparison((Path(recipes[0]).stem, Path(recipes[1]).stem), equal, trials)
    if folder is not None:
        about: dict[str, Any] = {
            "machine": machine,
            "chatling": __version__,
            "date": time.strftime("%Y-%m-%d"),
            "took": round(took, 1),
            "options": [*options],
            "text": "--data FOLDER" if data else "",
        }
        write_comparison(folder, found, texts, about)
    return found


def write_comparison(
    folder: Path, found: Comparison, texts: Sequence[str], about: Mapping[str, Any]
) -> None:
    """Write the record: numbers, a page, and both recipes as `first.toml` and `second.toml`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {**about, **asdict(found), "p": found.p, "change": found.change}
    write_json(folder / RECORD, data)
    for name, text in zip(FILES, texts, strict=True):
        write_atomic(folder / name, text)
    write_atomic(folder / PAGE, "\n".join(page(found, about)))


def page(found: Comparison, about: Mapping[str, Any]) -> Iterator[str]:
    """The record in words."""
    machine, (first, second) = about["machine"], found.recipes
    yield f"# {first} against {second}\n"
    yield f"`chatling bench {NAME} --recipe first.toml --against second.toml --equal {found.equal}"
    yield f"--seeds {len(found.trials)} --record FOLDER {about['text']}".strip() + "`"
    yield f"({about['date']}, {machine.get('name', '?')}, {machine.get('cores', '?')} cores,"
    yield f"{duration(about['took'])}). Bits per byte of held-out text, base alone.\n"
    chance = "" if found.p is None else f"(p = {found.p:.2g}, Student's paired test, both sides)"
    yield f"[first.toml](first.toml) is {found.change:+.2%} from [second.toml](second.toml)"
    yield f"{chance}.\n"
    yield "| seed | first | second | difference | steps | seconds of training |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for each in found.trials:
        yield (
            f"| {each.seed} | {each.loss[0]:.4f} | {each.loss[1]:.4f} |"
            f" {each.loss[0] / each.loss[1] - 1:+.2%} | {each.steps[0]:,} and {each.steps[1]:,} |"
            f" {each.seconds[0]:.0f} and {each.seconds[1]:.0f} |"
        )
    yield ""


def _base_alone(recipe: str, home: Path, side: int) -> str:
    """A recipe without the stages after base."""
    lines = [f"extends = {json.dumps(str(find_recipe(recipe).absolute()), ensure_ascii=False)}"]
    lines += [f'{stage} = "none"' for stage in LATER]
    path = home / f"base-{side}.toml"
    write_atomic(path, "\n".join(lines) + "\n")
    return str(path)


def _train(
    recipe: str, home: Path, seed: int, steps: int, words: Sequence[str], side: int
) -> RunFolder:
    run = RunFolder(home / "runs" / f"{Path(recipe).stem}-{seed}-{side}")
    length = ["--base.steps", str(steps), "--seed", str(seed)]
    train_run(recipe, run, [*words, *length])
    return run


def _seconds(run: RunFolder) -> float:
    """Of all steps, at the median's speed: what compiles in the first ones does not count."""
    lines = [line["seconds"] for line in read_metrics(run.stage("base") / "metrics.jsonl")]
    return statistics.median(lines) * len(lines)
