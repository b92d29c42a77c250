"""What docs/figures.py draws with: a sheet of boxes and text, and what it needs of a finished run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from chatling.inference.engine import Engine
from chatling.messages import Conversation
from chatling.model.gpt import GPT
from chatling.report.figures import (
    INK,
    MUTED,
    SERIES,
    Figure,
    canvas,
    drawn,
)
from chatling.run_dir import RunFolder
from chatling.tokenizer.bpe import SPECIAL_TOKENS, Tokenizer
from chatling.tokenizer.chat_template import render_prompt
from chatling.train.checkpoint import load_model
from chatling.train.metrics import read_metrics

WIDTH, LINE, PAD = 400.0, 22.0, 5.0  # points
LETTER = 6.1  # a letter's width, about
PLAIN, MARKED, THIRD = SERIES[0], SERIES[1], SERIES[2]


class Sheet:
    """A picture of boxes with text in them, measured in points from the upper left corner."""

    def __init__(self, name: str, title: str, height: float):
        self.name, self.title, self.height = name, title, height
        self.context = canvas(height, layout=None)
        figure, self.axes = self.context.__enter__()
        self.figure = figure
        self.axes.set_position((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, WIDTH)
        self.axes.set_ylim(height, 0)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        color: str,
        strength: float = 0.25,
        height: float = 17,
    ) -> None:
        from matplotlib.patches import Rectangle

        self.axes.add_patch(
            Rectangle((x, y), width, height, facecolor=color, alpha=strength, linewidth=0)
        )

    def text(
        self, x: float, y: float, words: str, color: str = INK, align: str = "left", small: int = 0
    ) -> None:
        self.axes.text(
            x, y, words.replace("$", r"\$"), color=color, ha=align, va="center", fontsize=11 - small
        )

    def tokens(
        self, y: float, labels: Sequence[str], colors: Sequence[str], below: Sequence[str] = ()
    ) -> float:
        """A line of boxes, wrapped; returns where the next line begins."""
        x, step = 0.0, LINE + (12 if below else 0)
        for i, (label, color) in enumerate(zip(labels, colors, strict=True)):
            width = max(LETTER * max(len(label), len(below[i]) * 0.8 if below else 0) + 2 * PAD, 14)
            if x + width > WIDTH:
                x, y = 0.0, y + step
            self.box(x, y, width - 2, color)
            self.text(x + width / 2 - 1, y + 9, label, align="center")
            if below:
                self.text(x + width / 2 - 1, y + 24, below[i], MUTED, "center", small=3)
            x += width
        return y + step

    def done(self, alt: str) -> Figure:
        self.axes.set_ylim(self.height, 0)
        figure = Figure(self.name, self.title, alt, drawn(self.figure, self.name))
        self.context.__exit__(None, None, None)
        return figure


class Run:
    """What the pictures need of a finished run."""

    def __init__(self, name: str):
        self.folder = RunFolder.open(name)
        self.tokenizer = Tokenizer.load(self.folder.tokenizer)
        self.models: dict[str, GPT] = {}
        self._engine: Engine | None = None

    def engine(self, model: GPT) -> Engine:
        """One engine for all: a new one would measure anew."""
        if self._engine is None:
            self._engine = Engine(model, self.tokenizer, max_batch_size=8)
        else:
            self._engine.load_weights(model)
        return self._engine

    def model(self, stage: str) -> GPT:
        if stage not in self.models:
            self.models[stage] = load_model(self.folder.model(stage)).eval()
        return self.models[stage]

    def lines(self, stage: str) -> list[dict[str, Any]]:
        return list(read_metrics(self.folder.stage(stage) / "metrics.jsonl"))

    def shown(self, ids: Iterable[int]) -> list[str]:
        """Each token as a reader sees it, blanks as ␣ and line ends as ⏎."""
        names = [
            SPECIAL_TOKENS[i - self.tokenizer.bos].strip("<|>")
            if i >= self.tokenizer.bos
            else self._text(i)
            for i in ids
        ]
        return [name.replace(" ", "␣").replace("\n", "⏎") for name in names]

    def _text(self, token: int) -> str:
        text = self.tokenizer.decode([token])
        return self.tokenizer.pieces[token].hex().upper() if "\ufffd" in text else text

    def prompt(self, question: str) -> tuple[int, ...]:
        return tuple(render_prompt(self.tokenizer, Conversation.of(question)))

    @torch.no_grad()
    def likeliest(self, stage: str, ids: Sequence[int], count: int) -> list[tuple[str, float]]:
        model = self.model(stage)
        chances = model.logits(model(torch.tensor([ids])))[0, -1].softmax(-1)
        best = chances.topk(count)
        return list(zip(self.shown(best.indices.tolist()), best.values.tolist(), strict=True))
