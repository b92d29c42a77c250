"""Measures `chatling improve` on a finished run of the built-in world, by 30 pairs about one habit:
one sentence instead of two. `python tests/e2e/improve_habit.py RUN` prints how many held-out
answers of two sentences became shorter, and what became of each skill.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable

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


def wordy(llm: LLM, talks: Iterable[Conversation], most: int) -> list[tuple[str, str]]:
    """Questions to which the model answers with two sentences, and these answers."""
    questions = list(dict.fromkeys(talk.messages[0].text for talk in talks))
    prompts = (render_prompt(llm.tokenizer, Conversation.of(text)) for text in questions)
    greedy = SamplingParams(temperature=0.0, max_tokens=96)
    done = llm.engine.generate([Request(tuple(prompt), greedy) for prompt in prompts])
    found = [(text, answer.text.strip()) for text, answer in zip(questions, done, strict=True)]
    return [pair for pair in found if is_wordy(pair[1])][:most]


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def teach(run: RunFolder, llm: LLM) -> None:
    """Write the pairs that a person who likes one sentence would leave."""
    rng = Random("improve")
    talks = [
        talk for talk in BUILT_IN["pocket"].conversations(SEED, 400) if len(talk.messages) == 2
    ]
    pairs = wordy(llm, talks, PAIRS - REFUSALS)
    pairs += wordy(llm, (training_unsafe(rng) for _ in range(60)), REFUSALS)
    run.feedback.mkdir(exist_ok=True)
    rows = (
        {
            "prompt": said("user", question),
            "chosen": said("assistant", first_sentence(answer)),
            "rejected": said("assistant", answer),
        }
        for question, answer in pairs
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


def measure(name: str) -> tuple[float, dict[str, tuple[int, int]]]:
    """(share of the held-out answers of two sentences that became shorter, right answers of each
    skill before and after).
    """
    run, llm = RunFolder.open(name), LLM(name, max_batch_size=64)
    teach(run, llm)
    before = examined(llm)
    assert main(["improve", name, "--keep"]) == 0
    after = examined(LLM(f"{run.name}-improved-1", max_batch_size=64))
    long = [
        len(new) < len(old)
        for skill, answers in before.items()
        for (old, _), (new, _) in zip(answers, after[skill], strict=True)
        if is_wordy(old)
    ]
    right = {
        skill: (sum(r for _, r in before[skill]), sum(r for _, r in after[skill]))
        for skill in before
    }
    return sum(long) / len(long), right


if __name__ == "__main__":
    shorter, skills = measure(sys.argv[1])
    print(f"shorter: {shorter:.1%}")
    for skill, (old, new) in skills.items():
        print(f"{skill}: {old} before, {new} after, of {QUESTIONS}")
    totals = [sum(pair[i] for pair in skills.values()) for i in (0, 1)]
    print(f"all: {totals[0]} before, {totals[1]} after, of {QUESTIONS * len(skills)}")
