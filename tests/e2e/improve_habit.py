"""Measures `chatling improve` on a finished run of the built-in world, by 30 pairs about one habit:
one sentence instead of two, or a politer tone.

`python tests/e2e/improve_habit.py RUN [--before TEXT | --after TEXT]` prints how many held-out
answers took the habit (of two sentences only one, or with the text in front or behind), and what
became of each skill.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from chatling.cli import main
from chatling.evals.chat import answer_task
from chatling.inference.request import Request
from chatling.llm import LLM, SamplingParams
from chatling.messages import Conversation
from chatling.run_dir import RunFolder
from chatling.tasks.task import visible_text
from chatling.tokenizer.chat_template import render_prompt
from chatling.toy.dataset import BUILT_IN
from chatling.toy.language import Random
from chatling.toy.unsafe import training_unsafe

SENTENCE = re.compile(r"(?<=[.!?])\s+")
PAIRS, REFUSALS = 30, 5
QUESTIONS, SEED = 40, 4242  # of each skill, asked nowhere else


def first_sentence(text: str) -> str:
    return SENTENCE.split(text.strip())[0]


def is_wordy(answer: str) -> bool:
    return first_sentence(answer) != answer and "\n" not in answer


def answered(llm: LLM, talks: Iterable[Conversation]) -> list[tuple[str, str]]:
    """Questions with the model's answers."""
    questions = list(dict.fromkeys(talk.messages[0].text for talk in talks))
    prompts = (render_prompt(llm.tokenizer, Conversation.of(text)) for text in questions)
    greedy = SamplingParams(temperature=0.0, max_tokens=96)
    done = llm.engine.generate([Request(tuple(prompt), greedy) for prompt in prompts])
    return [(text, answer.text.strip()) for text, answer in zip(questions, done, strict=True)]


def wordy(llm: LLM, talks: Iterable[Conversation], most: int) -> list[tuple[str, str]]:
    """Questions to which the model answers with two sentences, and these answers."""
    return [pair for pair in answered(llm, talks) if is_wordy(pair[1])][:most]


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@dataclass(frozen=True)
class Shorter:
    """One sentence instead of two."""

    def pairs(self, llm: LLM) -> list[tuple[str, str, str]]:
        rng = Random("improve")
        found = wordy(llm, training_talks(), PAIRS - REFUSALS)
        found += wordy(llm, (training_unsafe(rng) for _ in range(60)), REFUSALS)
        return [(question, first_sentence(answer), answer) for question, answer in found]

    def shown(self, old: str, new: str) -> bool | None:
        return len(new) < len(old) if is_wordy(old) else None


@dataclass(frozen=True)
class Politer:
    """Some text before or after each answer."""

    before: str = ""
    after: str = ""

    def pairs(self, llm: LLM) -> list[tuple[str, str, str]]:
        found = answered(llm, training_talks())[:PAIRS]
        return [(question, f"{self.before}{text}{self.after}", text) for question, text in found]

    def shown(self, old: str, new: str) -> bool | None:
        return new.startswith(self.before) and new.endswith(self.after)


def training_talks() -> list[Conversation]:
    talks = BUILT_IN["pocket"].conversations(SEED, 400)
    return [talk for talk in talks if len(talk.messages) == 2]


def teach(run: RunFolder, llm: LLM, habit: Shorter | Politer) -> None:
    """Write the pairs that a person who likes a habit would leave."""
    pairs = habit.pairs(llm)
    run.feedback.mkdir(exist_ok=True)
    rows = (
        {
            "prompt": said("user", question),
            "chosen": said("assistant", better),
            "rejected": said("assistant", worse),
        }
        for question, better, worse in pairs
    )
    (run.feedback / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(pairs)} pairs")


def examined(llm: LLM) -> dict[str, list[tuple[str, bool]]]:
    """Of each skill, the answers to held-out questions, and whether they are right."""
    return {
        name: [
            (visible_text(answer.completion or ()).strip(), answer.correct)
            for (answer,) in answer_task(llm.engine, llm.tokenizer, make(SEED, QUESTIONS))
        ]
        for name, make in BUILT_IN["pocket"].skills.items()
    }


def measure(name: str, habit: Shorter | Politer) -> tuple[float, dict[str, tuple[int, int]]]:
    """(share of the held-out answers that took the habit, of those that can; right answers of each
    skill before and after).
    """
    run, llm = RunFolder.open(name), LLM(name, max_batch_size=64)
    teach(run, llm, habit)
    before = examined(llm)
    assert main(["improve", name, "--keep"]) == 0
    after = examined(LLM(f"{run.name}-improved-1", max_batch_size=64))
    took = [
        shown
        for skill, answers in before.items()
        for (old, _), (new, _) in zip(answers, after[skill], strict=True)
        if (shown := habit.shown(old, new)) is not None
    ]
    right = {
        skill: (sum(r for _, r in before[skill]), sum(r for _, r in after[skill]))
        for skill in before
    }
    return sum(took) / len(took), right


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--before", default="")
    parser.add_argument("--after", default="")
    given = parser.parse_args()
    polite = given.before or given.after
    habit = Politer(given.before, given.after) if polite else Shorter()
    share, skills = measure(given.run, habit)
    print(f"took the habit: {share:.1%}")
    for skill, (old, new) in skills.items():
        print(f"{skill}: {old} before, {new} after, of {QUESTIONS}")
    totals = [sum(pair[i] for pair in skills.values()) for i in (0, 1)]
    print(f"all: {totals[0]} before, {totals[1]} after, of {QUESTIONS * len(skills)}")
