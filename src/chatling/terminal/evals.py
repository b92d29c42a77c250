"""Evaluation results as tables: several models side by side, and together."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from chatling.evals.bpb import TokenScores
from chatling.evals.chat import Result, combined
from chatling.evals.core import CoreResult, TaskScore
from chatling.evals.long_context import LongScores, mean
from chatling.terminal.tables import print_table


def show_results(
    results: Mapping[str, Sequence[Result]], console: Console, together: bool = False
) -> None:
    """Print a row a task and a column a model (by its label), and their sum where asked for.
    Intervals are 95 % (Wilson).
    """
    columns = {label: {result.name: result for result in found} for label, found in results.items()}
    if together:
        columns["together"] = {
            result.name: result
            for result in combined(result for found in results.values() for result in found)
        }
    _side_by_side(columns, _chat_cell, console)
    for label, found in results.items():
        centered = [result.centered for result in found if result.total and not result.part]
        if any(result.baseline for result in found):
            console.print(
                f"{label}: mean centred accuracy {sum(centered) / len(centered):.4f} over"
                f" {len(centered)} tasks",
                markup=False,
            )
        if any(result.too_long for result in found):
            many = ", ".join(
                f"{result.name} {result.too_long}" for result in found if result.too_long
            )
            console.print(f"{label}: questions longer than the context: {many}", markup=False)


def _chat_cell(result: Result) -> str:
    low, high = result.interval
    passes = "".join(f", pass@{k} {rate:.1%}" for k, rate in result.passes[1:])
    return (
        f"{result.accuracy:6.1%} ({low:.1%}–{high:.1%}, {result.correct:g}/{result.total}){passes}"
    )


def show_core(results: Mapping[str, CoreResult], console: Console) -> None:
    """Print a row a task and a column a model: accuracy and, in brackets, how far above guessing;
    then CORE, and what to know of it.
    """
    _side_by_side({label: result.tasks for label, result in results.items()}, _core_cell, console)
    told: set[str] = set()
    for label, result in results.items():
        parts = ["a cut bundle"] if result.cut else []
        parts += [f"at most {result.limit:,} examples of each task"] if result.limit else []
        about = f"; {' and '.join(parts)}: does not compare with published scores" if parts else ""
        console.print(
            f"{label}: CORE {result.core:.4f} over {len(result.tasks)} tasks{about}",
            markup=False,
            soft_wrap=True,
        )
        cropped = [
            f"{name} {score.cropped:,} of {score.count:,}"
            for name, score in result.tasks.items()
            if score.cropped
        ]
        if cropped:
            note = (
                f"{label}: examples cropped from the left to fit the context: {', '.join(cropped)}"
            )
            console.print(note, markup=False, style="dim", soft_wrap=True)
        for problem in result.problems:
            if problem not in told:
                console.print(problem, markup=False, style="dim", soft_wrap=True)
            told.add(problem)


def _core_cell(score: TaskScore) -> str:
    return f"{score.accuracy:.4f} ({score.centered:+.4f})"


def show_bpb(results: Mapping[str, Mapping[str, TokenScores]], console: Console) -> None:
    """Print bits per byte a split, then the loss in nats at places of the row that double."""
    _side_by_side(
        results,
        lambda scores: (
            f"{scores.bpb:.4f} bpb ({scores.loss:.3f} nats a token, {scores.bytes:,} bytes)"
        ),
        console,
    )
    curves = {
        f"{label}, {split}": scores.positions
        for label, splits in results.items()
        for split, scores in splits.items()
    }
    longest = max(map(len, curves.values()))
    edges = [0, *(2**i for i in range(longest.bit_length())), longest]
    spans = [(a, b) for a, b in itertools.pairwise(edges) if a < b]
    rows = {
        label: {f"place {a + 1:,} to {b:,}": mean(curve[a:b]) for a, b in spans}
        for label, curve in curves.items()
    }
    console.print()
    _side_by_side(rows, lambda loss: f"{loss:.3f}", console)


def show_long(results: Mapping[str, LongScores], console: Console) -> None:
    """Print the needles found, a row a length and a depth, then what became of each gate."""
    needles = {
        label: {
            f"needle in {each.length:,} tokens, {each.depth:.0%} deep": each.correct / each.total
            for each in scores.needles
        }
        for label, scores in results.items()
    }
    _side_by_side(needles, lambda share: f"{share:.0%}", console)
    for label, scores in results.items():
        for gate in scores.gates:
            verdict = "passed" if gate.passed else "NOT passed"
            line = f"{label}: {gate.name} {verdict}: {gate.found}"
            console.print(line, markup=False, soft_wrap=True)


def show_harness(results: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Print lm-eval's metrics, a row each."""
    columns = {
        label: {
            f"{task}, {metric.removesuffix(',none')}": value
            for task, found in tasks.items()
            for metric, value in found.items()
        }
        for label, tasks in results.items()
    }
    numbers = {
        label: {name: value for name, value in found.items() if isinstance(value, float)}
        for label, found in columns.items()
    }
    _side_by_side(numbers, lambda value: f"{value:.4f}", console)


def _side_by_side(
    columns: Mapping[str, Mapping[str, Any]], cell: Callable[[Any], str], console: Console
) -> None:
    """A row for each name that some column has, in the order in which they first come up."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = (
        [name.replace("_", " "), *(cell(c[name]) if name in c else "" for c in columns.values())]
        for name in names
    )
    print_table(console, ["", *columns], rows)
