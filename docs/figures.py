"""Draw the pictures of the pages from a finished run: python docs/figures.py RUN

Each function draws one, and `FIGURES` names them all. The files go to docs/figures, light and dark in one, and
the pages' alternative texts come from here, too (tests/test_book.py).
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from drawing import LETTER, LINE, MARKED, PAD, PLAIN, THIRD, WIDTH, Run, Sheet

from chatling.config.recipe import load_recipe
from chatling.data.packing import PackedRows
from chatling.data.token_shards import TokenShards
from chatling.evals.chat import judge
from chatling.evals.samples import shown
from chatling.inference.engine import Request, SamplingParams
from chatling.messages import Conversation
from chatling.model.config import ModelConfig, activation_memory, logits_memory, parameter_counts
from chatling.model.gpt import GPT
from chatling.optim.schedule import Schedule
from chatling.report.figures import (
    MUTED,
    SERIES,
    Bars,
    Curve,
    Figure,
    bars,
    curves,
)
from chatling.run_dir import size
from chatling.tokenizer.chat_template import parse_completion, render, render_prompt
from chatling.toy.dataset import BUILT_IN
from chatling.train.rollouts import advantages

FOLDER = Path(__file__).with_name("figures")
QUESTION = "What is the capital of France?"
BEGUN = "The capital of France is"


def tokens(run: Run) -> Figure:
    text = "The capital of France is Paris. strawberry 12345 法国"
    ids = run.tokenizer.encode(text)
    sheet = Sheet("tokens", "A text as tokens, with their numbers", 120)
    sheet.text(0, 9, text)
    colors = [SERIES[i % 2] for i in range(len(ids))]
    y = sheet.tokens(24, run.shown(ids), colors, [str(i) for i in ids])
    sheet.height = y + 2
    return sheet.done(
        f"“{text}” cut into {len(ids)} tokens: {' | '.join(run.shown(ids))}; each has a number below it."
    )


def neighbors(run: Run) -> Figure:
    words = (" Paris", " Africa", " cat", " red", " seven", " apples", "12")
    table = torch.nn.functional.normalize(run.model("mid").embed_tokens.weight.detach(), dim=-1)
    found = [(word, run.tokenizer.encode(word)) for word in words]
    found = [(word, ids[0]) for word, ids in found if len(ids) == 1]
    sheet = Sheet(
        "neighbors",
        "Words and the tokens whose embeddings are nearest to theirs",
        8 + LINE * len(found),
    )
    told = []
    for row, (word, token) in enumerate(found):
        near = (table @ table[token]).topk(6)
        y, x = 4 + row * LINE, 90.0
        sheet.text(80, y + 9, word.strip(), align="right")
        names = run.shown(near.indices.tolist()[1:])
        for name, closeness in zip(names, near.values.tolist()[1:], strict=True):
            width = LETTER * len(name) + 2 * PAD
            if x + width > WIDTH:
                break
            sheet.box(x, y, width - 2, PLAIN, min(1.0, max(0.05, closeness)) * 0.6)
            sheet.text(x + width / 2 - 1, y + 9, name, align="center")
            x += width
        told.append(f"{word.strip()}: {', '.join(name.strip('␣') for name in names)}")
    return sheet.done(
        f"The tokens nearest to each word by cosine, darker where nearer. {'; '.join(told)}."
    )


def attention(run: Run) -> Figure:
    """All heads of the layer in which the last token looks most at one earlier place."""
    model, seen = run.model("sft"), []

    def recorded(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int, kernel: str
    ) -> torch.Tensor:
        scores = torch.einsum("bihe,bjhe->bhij", q, k) / q.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        seen.append(weights[0])
        return torch.einsum("bhij,bjhe->bihe", weights, v)

    ids = [*run.prompt(QUESTION), *run.tokenizer.encode(BEGUN)]
    with torch.no_grad(), mock.patch("chatling.model.gpt.attend", recorded):
        model(torch.tensor([ids]))
    country = run.shown(ids).index("␣France")
    layer = max(range(len(seen)), key=lambda i: float(seen[i][:, -1, country].max()))
    labels = [label if len(label) < 9 else label[:3] + "…" for label in run.shown(ids)]
    heads, n, cell = seen[layer][:4], len(ids), 168 / len(ids)
    height = 220 * -(-len(heads) // 2)
    sheet = Sheet("attention", f"Attention in the heads of layer {layer + 1}", height)
    for head, weights in enumerate(heads):
        left, top = 34 + 196 * (head % 2), 12 + 222 * (head // 2)
        sheet.text(left + 84, top - 4, f"head {head + 1}", MUTED, "center", small=2)
        for i in range(n):
            for j in range(i + 1):
                strength = float(weights[i, j])
                sheet.box(
                    left + j * cell,
                    top + 4 + i * cell,
                    cell * 0.92,
                    PLAIN,
                    0.04 + 0.96 * strength,
                    cell * 0.92,
                )
            if head % 2 == 0:
                sheet.text(left - 2, top + 4 + (i + 0.5) * cell, labels[i], MUTED, "right", small=5)
            sheet.axes.text(
                left + (i + 0.5) * cell,
                top + 8 + n * cell,
                labels[i],
                color=MUTED,
                fontsize=6,
                rotation=90,
                ha="center",
                va="top",
            )
    most = max(range(len(heads)), key=lambda i: float(heads[i][-1, country]))
    return sheet.done(
        f"A triangle for each head: row i shows how much token i takes from each earlier one. After “{BEGUN}” head {most + 1}"
        f" of layer {layer + 1} gives France {float(heads[most][-1, country]):.0%}. Above the diagonal nothing is seen."
    )


def probabilities(run: Run) -> Figure:
    """The likeliest tokens after SFT, where the question was asked, and of the base model."""
    begun, size = run.tokenizer.encode(BEGUN), run.tokenizer.vocab_size
    base = dict(run.likeliest("base", [run.tokenizer.bos, *begun], size))
    later = dict(run.likeliest("sft", [*run.prompt(QUESTION), *begun], size))
    names = list(dict.fromkeys([*list(later)[:1], *list(base)]))[:5]
    found = bars(
        "probabilities",
        f"Probabilities of the next token after “{BEGUN}”",
        names,
        [
            Bars("base model", [base[name] for name in names]),
            Bars("after SFT, asked", [later[name] for name in names]),
        ],
    )
    assert found
    return found


def loss(run: Run) -> Figure:
    """Loss of base and mid, and what the model wrote at four moments."""
    stages = [
        (stage, [line for line in run.lines(stage) if "loss" in line]) for stage in ("base", "mid")
    ]
    steps = [len(lines) for _, lines in stages]
    figure = curves(
        "loss",
        "Loss over the steps of base and mid",
        [
            Curve(
                stage,
                [line["step"] + (steps[0] if stage == "mid" else 0) for line in lines],
                [line["loss"] for line in lines],
            )
            for stage, lines in stages
        ],
        marks=[steps[0]],
    )
    assert figure
    return figure


@torch.no_grad()
def written(run: Run) -> Figure:
    fresh = GPT(run.model("base").config).eval()
    fresh.initialize(torch.Generator().manual_seed(1))
    moments = [
        ("fresh weights", fresh),
        (f"base, step {len(run.lines('base'))}", run.model("base")),
        ("after mid", run.model("mid")),
        ("after SFT", run.model("sft")),
    ]
    ids = (run.tokenizer.bos, *run.tokenizer.encode(BEGUN))
    sheet = Sheet(
        "written", f"How the model went on after “{BEGUN}” at four moments", 8 + 34 * len(moments)
    )
    told = []
    for row, (moment, model) in enumerate(moments):
        # fresh weights find all tokens equally likely: the likeliest says nothing, so one draws
        sampling = SamplingParams(0 if row else 1, seed=1, max_tokens=12)
        answer = run.engine(model).generate([Request(ids, sampling)])[0]
        text = " ".join(run.tokenizer.decode(answer.ids[:12]).split())[:62]
        sheet.text(0, 10 + 34 * row, moment, MUTED, small=2)
        sheet.text(8, 25 + 34 * row, text)
        told.append(f"{moment}: “{text}”")
    return sheet.done("; ".join(told) + ".")


def schedule(run: Run) -> Figure:
    """At few steps, the corners among them: longer lines would be smoothed."""
    x, rate, momentum, begun = [], [], [], 0
    for stage in ("base", "mid"):
        rates = [line["rate"] for line in run.lines(stage) if "rate" in line]
        last = len(rates) - 1
        top = [step for step, factor in enumerate(rates) if factor == max(rates)]
        for step in sorted({0, top[0], top[-1], last, *range(0, last, max(1, last // 12))}):
            x.append(begun + step)
            rate.append(rates[step])
            momentum.append(Schedule(len(rates)).momentum(step))
        begun += len(rates)
    found = curves(
        "schedule",
        "Learning-rate factor and Muon's momentum over base and mid",
        [Curve("learning rate", x, rate), Curve("momentum", x, momentum)],
        marks=[len(run.lines("base"))],
    )
    assert found
    return found


def packing(run: Run) -> Figure:
    config = run.model("base").config
    shards = TokenShards.open(run.folder.data / "base-train")
    packed = PackedRows(shards, config.context, run.tokenizer.bos, seed=1)
    sheet = Sheet(
        "packing",
        f"Eight rows of {config.context + 1} tokens; each color is a document",
        8 * LINE + 4,
    )
    counts = []
    for row, ids in zip(range(8), packed.rows(0), strict=False):
        starts = [i for i, token in enumerate(ids.tolist()) if token == run.tokenizer.bos] + [
            len(ids)
        ]
        counts.append(len(starts) - 1)
        for k, (start, end) in enumerate(zip(starts, starts[1:], strict=False)):
            x, width = start / len(ids) * WIDTH, (end - start) / len(ids) * WIDTH
            sheet.box(x, 2 + row * LINE, width - 1, SERIES[k % 5], 0.45)
            sheet.text(x + width / 2, 11 + row * LINE, str(end - start), MUTED, "center", small=4)
    return sheet.done(
        f"Eight bars of equal length without gaps, each filled by {min(counts)} to {max(counts)} documents; numbers are tokens, the leading"
        " bos included."
    )


def mask(run: Run) -> Figure:
    talks = BUILT_IN["pocket"].conversations(1, 400)
    talk = next(
        talk
        for talk in talks
        if len(talk.messages) == 2 and any(part.kind == "python" for part in talk.messages[1].parts)
    )
    rendered = render(run.tokenizer, talk)
    labels = run.shown(rendered.ids)
    colors = [MARKED if learnt else SERIES[5] for learnt in rendered.mask]
    sheet = Sheet("mask", "A conversation as tokens: orange ones count in SFT's loss", 200)
    sheet.height = sheet.tokens(2, labels, colors)
    learnt = "".join(label for label, counted in zip(labels, rendered.mask, strict=True) if counted)
    return sheet.done(
        f"The tokens of a question and its answer with a calculator's call. {sum(rendered.mask)} of {len(labels)} count: {learnt}."
    )


def group(run: Run) -> Figure:
    task = BUILT_IN["pocket"].exam(1, 60)
    engine = run.engine(run.model("dpo"))
    for question in task:
        prompt = tuple(render_prompt(run.tokenizer, question.prompt))
        answers = engine.generate(
            [Request(prompt, SamplingParams(1.0, seed=k, max_tokens=72)) for k in range(8)]
        )
        rewards = [judge(run.tokenizer, task, question, answer) for answer in answers]
        if 2 <= sum(rewards) <= 5:
            break
    better = advantages(rewards, False)
    sheet = Sheet("group", "A group of eight answers: reward and advantage", 50 + 8 * LINE)
    for i, line in enumerate(textwrap.wrap(question.messages[0].text, 64)[:2]):
        sheet.text(0, 9 + 17 * i, line)
    for row, (answer, reward, gain) in enumerate(zip(answers, rewards, better, strict=True)):
        y = 40 + row * LINE
        said = shown(parse_completion(run.tokenizer, answer.ids))
        sheet.text(0, y + 9, textwrap.shorten(said, 44, placeholder=" …"), small=1)
        sheet.text(268, y + 9, f"{reward:.0f}", align="right", small=1)
        sheet.box(
            min(320, 320 + 45 * gain), y + 2, abs(45 * gain), THIRD if gain > 0 else MARKED, 0.6, 13
        )
        sheet.text(WIDTH, y + 9, f"{gain:+.3f}", MUTED, "right", small=2)
    right = sum(reward > 0 for reward in rewards)
    return sheet.done(
        f"{right} of eight answers to one question are right. Right ones have the advantage {max(better):+.3f}, wrong ones {min(better):+.3f}."
    )


@torch.no_grad()
def preferences(run: Run) -> Figure:
    """Log-probability of both answers of a few held-out pairs, before and after DPO."""
    pairs = BUILT_IN["pocket"].preferences("validation", 1, 300)
    moved = []
    for pair in pairs[:40]:
        row = []
        for answer in (pair.chosen, pair.rejected):
            rendered = render(run.tokenizer, Conversation((*pair.prompt.messages, answer)))
            ids = torch.tensor([rendered.ids])
            given = len(render(run.tokenizer, pair.prompt).ids) + 1
            targets = ids[:, 1:].clone()
            targets[:, : given - 1] = -1
            row.append(
                [
                    float(run.model(stage).logprobs(ids[:, :-1], targets).sum())
                    for stage in ("sft", "dpo")
                ]
            )
        moved.append((pair, row))
    moved.sort(
        key=lambda each: (each[1][0][1] - each[1][0][0]) - (each[1][1][1] - each[1][1][0]),
        reverse=True,
    )
    chosen = moved[:: max(1, len(moved) // 6)][:6]
    low = min(value for _, row in chosen for ends in row for value in ends)
    sheet = Sheet(
        "preferences",
        "What DPO moved: log-probabilities of both answers, before and after",
        40 * len(chosen) + 22,
    )
    for i, (pair, row) in enumerate(chosen):
        y = 4 + 40 * i
        sheet.text(0, y + 6, pair.prompt.messages[-1].text[:64], MUTED, small=2)
        for k, (before, after) in enumerate(row):
            start, end = (190 + 205 * (1 - (value / low) ** 0.5) for value in (before, after))
            text = " ".join((pair.rejected if k else pair.chosen).text.split())
            sheet.text(0, y + 18 + 11 * k, textwrap.shorten(text, 36, placeholder=" …"), small=3)
            sheet.axes.annotate(
                "", (end, y + 18 + 11 * k), (start, y + 18 + 11 * k),
                arrowprops={"arrowstyle": "->", "color": MARKED if k else THIRD, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
    sheet.text(190, sheet.height - 8, f"{low:.0f} nats, square-root scale", MUTED, small=3)
    sheet.text(WIDTH - 5, sheet.height - 8, "0: certain", MUTED, "right", small=3)
    up = sum(row[0][1] - row[0][0] > row[1][1] - row[1][0] for _, row in moved)
    return sheet.done(
        f"For six pairs an arrow each of the preferred answer (green) and the other (orange), from before to after DPO. In {up} of {len(moved)} held-out"
        " pairs the preferred one gained on the other."
    )


def cache(run: Run) -> Figure:
    prompt = run.prompt("What is 12 plus 7?")
    answer = run.engine(run.model("sft")).generate(
        [Request(prompt, SamplingParams(0, max_tokens=14))]
    )[0]
    ids, start = [*prompt, *answer.ids], len(prompt)
    injected = [False] * start + list(answer.injected)
    cell, rows = min(16.0, WIDTH / len(ids)), [start, *range(start + 1, len(ids) + 1)]
    sheet = Sheet(
        "cache",
        "Keys and values while decoding: read, and written in this step",
        70 + len(rows) * cell,
    )
    for j, label in enumerate(run.shown(ids)):
        sheet.axes.text(
            (j + 0.5) * cell,
            64,
            label,
            color=MUTED,
            fontsize=7,
            rotation=90,
            ha="center",
            va="bottom",
        )
    for i, reach in enumerate(rows):
        for j in range(reach):
            fresh = j >= (rows[i - 1] if i else 0)
            color = SERIES[3] if injected[j] and fresh else MARKED if fresh else PLAIN
            sheet.box(
                j * cell, 68 + i * cell, cell * 0.9, color, 0.75 if fresh else 0.2, cell * 0.9
            )
    return sheet.done(
        f"A staircase: the first line writes keys and values of the {start} tokens of the prompt, each later line those of one token (orange;"
        " violet where the calculator wrote it) and reads all that stand before it (pale)."
    )


def memory(run: Run) -> Figure:
    def parts(config: ModelConfig, rows: int) -> dict[str, int]:
        counts = parameter_counts(config)
        return {
            "weights": 4 * counts["total"],
            "gradients": 4 * counts["total"],
            "Muon": 4 * counts["matrices"],
            "AdamW": 8 * (counts["total"] - counts["matrices"]),
            "activations": activation_memory(config, rows),
            "logits": logits_memory(config, rows),
        }

    stacks = [
        ("pocket, 32 rows of 128", parts(run.model("base").config, 32)),
        ("spark, 32 rows of 2,048", parts(load_recipe("spark").model.resolve(65_536), 32)),
    ]
    sheet = Sheet("memory", "Memory of a training step", 76 * len(stacks) + 4)
    for i, (name, stack) in enumerate(stacks):
        whole, x, y = sum(stack.values()), 0.0, 4 + 76 * i
        sheet.text(0, y + 8, f"{name}: {size(whole)}")
        for k, (part, count) in enumerate(stack.items()):
            width = count / whole * WIDTH
            sheet.box(x, y + 18, max(width - 1, 0.5), SERIES[k], 0.6, 18)
            sheet.box(133 * (k % 3), y + 42 + 14 * (k // 3), 8, SERIES[k], 0.6, 8)
            sheet.text(
                12 + 133 * (k % 3), y + 46 + 14 * (k // 3), f"{part} {size(count)}", MUTED, small=2
            )
            x += width
    told = "; ".join(
        f"{name}: " + ", ".join(f"{part} {size(count)}" for part, count in stack.items())
        for name, stack in stacks
    )
    return sheet.done(f"Two stacked bars. {told}.")


def reward(run: Run) -> Figure:
    lines = [line for line in run.lines("rl") if "reward" in line]
    found = curves(
        "reward",
        "Share of right answers while RL trains",
        [Curve("reward", [line["step"] for line in lines], [line["reward"] for line in lines])],
    )
    assert found
    return found


FIGURES: tuple[Callable[[Run], Figure], ...] = (
    tokens, neighbors, attention, probabilities, loss, written, schedule, packing, mask, group, preferences, cache, memory, reward,
)  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    run, wanted = Run(sys.argv[1]), sys.argv[2:]
    FOLDER.mkdir(exist_ok=True)
    for draw in FIGURES:
        if not wanted or draw.__name__ in wanted:
            # nothing here needs the same bits in every batch
            with mock.patch("chatling.inference.model_runner.PROBED_ROUNDINGS", 1):
                figure = draw(run)
            text = figure.file.replace("<svg ", f'<svg role="img" aria-label="{figure.alt}" ', 1)
            (FOLDER / f"{figure.name}.svg").write_text(text + "\n", encoding="utf-8")
            print(f"![{figure.alt}](figures/{figure.name}.svg)", flush=True)


if __name__ == "__main__":
    main()
