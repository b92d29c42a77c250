"""CORE one example at a time, written from the rules alone and sharing no code with
`chatling.evals.core`: slow, plain, the yardstick.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml

Forward = Callable[[torch.Tensor], torch.Tensor]  # ids (B, T) to logits (B, T, V)
Encode = Callable[[str], list[int]]


@dataclass
class Verdict:
    correct: bool
    margin: float  # how far the decision is from falling otherwise, in nats: a tie at 0


def reference_tasks(bundle: Path) -> list[dict[str, Any]]:
    with open(bundle / "eval_meta_data.csv", newline="") as file:
        baselines = {
            row["Eval Task"]: float(row["Random baseline"]) for row in csv.DictReader(file)
        }
    tasks = yaml.safe_load((bundle / "core.yaml").read_text())["icl_tasks"]
    return [task | {"baseline": 0.01 * baselines[task["label"]]} for task in tasks]


def reference_rows(
    bundle: Path, task: dict[str, Any], limit: int | None = None
) -> list[dict[str, Any]]:
    with open(bundle / "eval_data" / task["dataset_uri"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(1337).shuffle(rows)
    return rows if limit is None else rows[:limit]


def reference_example(
    rows: list[dict[str, Any]],
    index: int,
    task: dict[str, Any],
    forward: Forward,
    encode: Encode,
    bos: int,
    context: int,
) -> Verdict:
    row, kind, delimiter = (
        rows[index],
        task["icl_task_type"],
        task.get("continuation_delimiter", " "),
    )
    others = [i for i in range(len(rows)) if i != index]
    shown = [
        rows[i]
        for i in random.Random(1234 + index).sample(
            others, min(task["num_fewshot"][0], len(others))
        )
    ]
    if kind == "multiple_choice":
        before = "".join(s["query"] + delimiter + s["choices"][s["gold"]] + "\n\n" for s in shown)
        prompts = [before + row["query"] + delimiter + choice for choice in row["choices"]]
    elif kind == "schema":
        before = "".join(
            s["context_options"][s["gold"]] + delimiter + s["continuation"] + "\n\n" for s in shown
        )
        prompts = [
            before + option + delimiter + row["continuation"] for option in row["context_options"]
        ]
    else:
        before = "".join(
            s["context"].strip() + delimiter + s["continuation"] + "\n\n" for s in shown
        )
        prompts = [
            (before + row["context"].strip() + delimiter).strip(),
            before + row["context"].strip() + delimiter + row["continuation"],
        ]
    sequences = [[bos, *encode(prompt)] for prompt in prompts]
    shortest = min(len(s) for s in sequences)
    same_start = next((i for i in range(shortest) if len({s[i] for s in sequences}) > 1), shortest)
    same_end = next(
        (i for i in range(shortest) if len({s[-1 - i] for s in sequences}) > 1), shortest
    )
    starts = (
        [same_start] * len(sequences)
        if kind != "schema"
        else [len(s) - same_end for s in sequences]
    )
    if kind == "language_modeling":
        sequences, starts = sequences[1:], starts[1:]
    losses, least = [], float("inf")
    greedy = True
    pad = max(min(len(s), context) for s in sequences)
    batch = torch.tensor([s[-context:] + [bos] * (pad - len(s)) for s in sequences])
    logits = forward(batch).to(torch.promote_types(torch.float32, forward(batch[:1, :1]).dtype))
    for number, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        start = max(1, start - max(0, len(sequence) - context))
        end = min(len(sequence), context)
        scores, goals = logits[number, start - 1 : end - 1], batch[number, start:end]
        losses.append(
            F.cross_entropy(scores, goals, reduction="none").mean().item()
        )  # NaN of no tokens
        greedy = greedy and bool((scores.argmax(-1) == goals).all())
        best = scores.topk(2).values
        own = scores.gather(1, goals[:, None])[:, 0]
        least = min(
            [least, *(own - torch.where(own == best[:, 0], best[:, 1], best[:, 0])).abs().tolist()]
        )
    if kind == "language_modeling":
        return Verdict(greedy, least)
    ranked = sorted(loss for loss in losses if loss == loss)
    return Verdict(
        losses.index(min(losses)) == row["gold"],
        ranked[1] - ranked[0] if len(ranked) > 1 else float("inf"),
    )
