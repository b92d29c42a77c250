"""An improved model beside the one that it was: answers, preferences, old skills."""

from collections.abc import Callable, Sequence

from rich.console import Console

from chatling.evals.chat import Result
from chatling.terminal.evals import show_results
from chatling.terminal.tables import print_table
from chatling.train.retention import SHARES

SHOWN = 12  # held-out questions


def show_comparison(
    console: Console,
    answers: Sequence[tuple[str, str, str]],
    preferred: tuple[float | None, float | None],
    share: float,
    skills: tuple[Sequence[Result], Sequence[Result]],
) -> None:
    """Print what both models answer to held-out questions, then how they stand."""
    say = _sayer(console)
    say("Held-out questions of yours, which it was not trained on:")
    print_table(console, ("asked", "before", "after"), map(_plain, answers[:SHOWN]), left=(0, 1, 2))
    if len(answers) > SHOWN:
        say(f"and {len(answers) - SHOWN} more.")
    before, after = preferred
    if before is None or after is None:
        say("\nNone of your held-out pairs fits the model's context.")
    else:
        say(f"\nThe better answer is the likelier one in {before:.0%} of your held-out pairs")
        say(f"before, and in {after:.0%} after.")
    if not skills[0]:
        say("Nothing tells whether old skills were kept: this run is not evaluated on any task.")
        return
    say("\nOld skills, on questions that decided nothing:")
    show_results({"before": skills[0], "after": skills[1]}, console)
    whole = ([r.accuracy for r in found if not r.part] for found in skills)
    means = [sum(accuracies) / len(accuracies) for accuracies in whole]
    say(f"mean: {means[0]:.1%} before, {means[1]:.1%} after.")
    if share < SHARES[0]:
        say(f"Only {share:.0%} of the way that training went is kept: more cost old skills.")


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)


def _plain(row: Sequence[str]) -> list[str]:
    """Without what a terminal would take for commands or markup."""
    return [
        "".join(c if c.isprintable() else " " for c in cell).replace("[", r"\[") for cell in row
    ]
