"""What people think of a run's answers trains a copy of its model. The copy is a run of its own
beside it, with the model as its origin; it is compared with it, and then kept or dropped.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from chatling.config.recipe import Recipe, from_toml, read_text, to_toml
from chatling.config.stages import DPOConfig, FinetuneConfig, OriginConfig
from chatling.data.preferences import Preference, read_preferences
from chatling.errors import RunError
from chatling.evals.chat import Result, chat_task_names, evaluate_chat, write_chat
from chatling.files import remove, temporary_name, write_atomic
from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.messages import Conversation, Message
from chatling.pipeline.improve_talks import changed_talks, entries, sft_on
from chatling.pipeline.runner import frozen_recipe
from chatling.run_dir import (
    MANIFEST,
    TEXT_STAGES,
    RunFolder,
    building_folder,
    find_run,
    read_json,
    write_json,
)
from chatling.serve.feedback import CORRECTIONS, PAIRS
from chatling.tokenizer.chat_template import parse_completion, render, render_prompt
from chatling.toy.dataset import BUILT_IN
from chatling.train.datasets import open_sources
from chatling.train.metrics import read_metrics
from chatling.train.retention import MOST_TOKENS, ROWS, watched_questions

__all__ = ["ROWS", "Comparison", "Improvement", "begin", "compare", "improvements", "undecided"]
LEAST = 8  # prompts with pairs, to begin with
HELD_OUT_ONE_IN = 5  # prompts; the others are trained on
# pairs that training goes through: the person's, repeated where there are fewer, and among them
# some of the built-in world
TRAINED, MIXED = 1080, 120
# of base's rate. Enough for a few dozen pairs to change a habit (docs/LOG.md): what it costs of old
# skills is taken back, where there are questions that show it
RATE, CAREFUL_RATE = 0.15, 0.1
TALKS = "talks.jsonl"
# of the held-out pairs, by which the better answer is likelier; with fewer it is tried once more,
# at so many times the rate
LEARNED, AGAIN = 0.5, 2.0
WRITTEN_WEIGHT = 0.2  # of the next-token loss of answers that a person wrote


@dataclass(frozen=True)
class Improvement:
    """A copy of a model that is, or was, trained on what people think of its answers. Its run has,
    besides the stages, `improve/`: pairs, recipe, and what was decided.
    """

    run: RunFolder

    @property
    def folder(self) -> Path:
        return self.run.path / "improve"

    @property
    def name(self) -> str:
        """As commands take it: that of the run, or its path where it is not among the others."""
        usual = find_run(self.run.name).absolute() == self.run.path.absolute()
        return self.run.name if usual else str(self.run.path)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """`source` and `stage` of the model that it began as, and the number of `pairs`."""
        found: dict[str, Any] = read_json(self.folder / "origin.json")
        return found

    @property
    def recipe(self) -> Recipe:
        path = self.folder / "recipe.toml"
        return from_toml(Recipe, read_text(path), str(path))

    @property
    def stage(self) -> str:
        """The one stage that it has."""
        return "dpo" if self.recipe.dpo else "sft"

    @property
    def kept(self) -> bool:
        return (self.folder / "kept.json").exists()

    def try_harder(self) -> float | None:
        """Where too few of the held-out pairs were learned for the first time, the recipe gets a
        higher rate. The share of those that were; None where it stays as it is.
        """
        recipe = self.recipe
        if recipe.dpo is None or recipe.dpo.learning_rate_fraction != RATE:
            return None
        share: float = read_metrics(self.run.stage("dpo") / "metrics.jsonl")[-1]["val_preferred"]
        if share >= LEARNED:
            return None
        harder = replace(recipe, dpo=replace(recipe.dpo, learning_rate_fraction=AGAIN * RATE))
        write_atomic(self.folder / "recipe.toml", to_toml(harder))
        return share

    def keep(self) -> None:
        write_json(self.folder / "kept.json", {"kept": True})

    def drop(self) -> None:
        """Remove the run. Raises RunError while it is in use."""
        with self.run.lock():
            gone = temporary_name(self.run.path)
            self.run.path.rename(gone)  # at once, whatever happens next
            remove(gone)

    def held_out(self) -> list[Preference]:
        """The pairs that it is not trained on."""
        return read_preferences([self.folder / "pairs" / "valid.jsonl"], _nothing)


def improvements(run: RunFolder) -> list[Improvement]:
    """Those of a run and of its improvements, the oldest first."""
    found = {
        int(match[1]): Improvement(RunFolder(path.parent))
        for path in run.path.absolute().parent.glob(f"{_family(run)}-improved-*/improve")
        if (match := re.fullmatch(r".*-improved-(\d+)", path.parent.name))
        and (path / MANIFEST).exists()
    }
    return [found[number] for number in sorted(found)]


def undecided(run: RunFolder) -> Improvement | None:
    """The newest one, if nobody has said yet whether to keep it."""
    newest = improvements(run)[-1:]
    return newest[0] if newest and not newest[0].kept else None


def _family(run: RunFolder) -> str:
    return re.sub(r"-improved-\d+$", "", run.name)[:80]


def begin(run: RunFolder, note: Callable[[str], None]) -> Improvement:
    """A new one, with what training needs. Raises RunError where there is too little to learn from,
    or no model that chats.
    """
    stage, recipe = run.finished_stage(), frozen_recipe(run)
    if stage in TEXT_STAGES:
        raise RunError(f"Run {run.name!r} has no model yet that chats.", "Finish it first.")
    pairs = _pairs(run, note)
    last = improvements(run)[-1:]
    number = 1 + (int(last[0].run.name.rpartition("-")[2]) if last else 0)
    new = Improvement(RunFolder(run.path.absolute().with_name(f"{_family(run)}-improved-{number}")))
    learned, held_out = _split(pairs)
    talks = changed_talks(recipe, learned, held_out, note)
    with building_folder(new.folder) as folder:
        (folder / "pairs").mkdir()
        _write(folder / "pairs" / "valid.jsonl", held_out)
        facts = {"source": str(run.path.absolute()), "stage": stage, "pairs": len(pairs)}
        write_json(folder / "origin.json", facts)
        if talks:
            rows = [json.dumps(talk.to_dict(), ensure_ascii=False) + "\n" for talk in talks]
            (folder / TALKS).write_text("".join(rows), "utf-8")
            own = _alone(recipe, new, facts, sft=sft_on(new.folder / TALKS, recipe))
        else:
            mixed = _mixed(_trained(run), learned, note)
            _write(folder / "pairs" / "train.jsonl", mixed)
            own = _with_dpo(run, recipe, new, facts)
        (folder / "recipe.toml").write_text(to_toml(own), "utf-8")
    return new


def _pairs(run: RunFolder, note: Callable[[str], None]) -> list[Preference]:
    path = run.feedback / PAIRS
    pairs = read_preferences([path], note) if _has_lines(path) else []
    if len({repr(pair.prompt) for pair in pairs}) < LEAST:
        raise RunError(
            f"Run {run.name!r} has {len(pairs)} preference pairs; learning takes {LEAST} on"
            " different messages at least, and a few dozen are better.",
            f"`chatling serve {run.name}`: mark answers, say which of two is better, or write a"
            " better one.",
        )
    return pairs


def _has_lines(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _split(pairs: Sequence[Preference]) -> tuple[list[Preference], list[Preference]]:
    """(to learn from, held out): all pairs of a prompt are on one side."""
    prompts = sorted({repr(pair.prompt) for pair in pairs}, key=_digest)
    apart = set(prompts[: len(prompts) // HELD_OUT_ONE_IN])
    learned, held_out = (
        [pair for pair in pairs if (repr(pair.prompt) in apart) == wanted]
        for wanted in (False, True)
    )
    return learned, held_out


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, pairs: Iterable[Preference]) -> None:
    lines = (json.dumps(_row(pair), ensure_ascii=False) + "\n" for pair in pairs)
    path.write_text("".join(lines), "utf-8")


def _row(pair: Preference) -> dict[str, Any]:
    def said(answer: Message) -> list[Any]:
        return Conversation((*pair.prompt.messages, answer)).to_dict()["messages"][-1:]

    prompt = pair.prompt.to_dict()["messages"]
    return {"prompt": prompt, "chosen": said(pair.chosen), "rejected": said(pair.rejected)}


def _mixed(
    recipe: Recipe, learned: Sequence[Preference], note: Callable[[str], None]
) -> list[Preference]:
    """The pairs, repeated, and others that keep apart what is known."""
    made, times = BUILT_IN.get(_world(recipe) or ""), max(1, round(TRAINED / len(learned)))
    count = max(MIXED, times * len(learned) // 3)
    others = made.preferences("train", recipe.seed, count) if made else []
    return [*list(learned) * times, *others, *_contrasts(recipe, count, note)]


def _trained(run: RunFolder) -> Recipe:
    """The recipe of the run that a run is an improvement of, or an improvement's improvement."""
    while (path := run.path / "improve" / "origin.json").is_file():
        source = RunFolder(Path(read_json(path)["source"]))
        if not source.path.is_dir():
            break
        run = source
    return frozen_recipe(run)


def _contrasts(recipe: Recipe, count: int, note: Callable[[str], None]) -> list[Preference]:
    """Of the files of conversations that a run was trained on, each answer against that to other
    messages: what is known stays apart.
    """
    own = [e for e in entries(recipe) if e.is_file and Path(e.task).is_file()]
    if not own:
        return []
    talks = open_sources(recipe, note).mixture(own, 0, "train", count)
    pairs = ((talks[i], talks[i - 1]) for i in range(min(count, len(talks))))
    return [
        Preference(one.prompt, one.messages[-1], other.messages[-1])
        for one, other in pairs
        if one.messages[-1] != other.messages[-1]
    ]


def _world(recipe: Recipe) -> str | None:
    """The built-in world that a run's conversations are of, if they are."""
    names = [entry.task for entry in entries(recipe)]
    names += [recipe.dpo.data, *recipe.dpo.watch] if recipe.dpo else []
    return next((name for name in names if name in BUILT_IN), None)


def _with_dpo(run: RunFolder, source: Recipe, new: Improvement, facts: dict[str, Any]) -> Recipe:
    """The source's, with DPO alone. Answers that a person wrote, which the model would not give by
    itself, are learned as in SFT, too.
    """
    trained, written = _trained(run), _has_lines(run.feedback / CORRECTIONS)
    before, watch = source.dpo or trained.dpo or DPOConfig(data=PAIRS), _watched(trained)
    dpo = replace(
        before,
        data=str(new.folder / "pairs"),
        pairs=None,
        epochs=1,
        warmup=2,
        evaluate_every=0,
        learning_rate_fraction=RATE if watch else CAREFUL_RATE,
        matrices_only=True,
        sft_loss_weight=WRITTEN_WEIGHT if written else before.sft_loss_weight,
        pad_to_multiple_of=min(before.pad_to_multiple_of, 32),
        watch=watch,
    )
    return _alone(source, new, facts, dpo=dpo)


def _watched(source: Recipe) -> tuple[str, ...]:
    """The chat tasks that show what became of old skills."""
    world, watched = _world(source), source.dpo.watch if source.dpo else ()
    names = watched or (source.eval.chat if source.eval else ()) or ((world,) if world else ())
    # programs are not run unasked
    return tuple(name for name in chat_task_names(names) if name != "HumanEval")


def _alone(
    source: Recipe,
    new: Improvement,
    facts: dict[str, Any],
    sft: FinetuneConfig | None = None,
    dpo: DPOConfig | None = None,
) -> Recipe:
    """The source's, with one stage."""
    machine = source.machine
    if machine.kernel != "flex":  # a few dozen steps do not pay for compilation
        machine = replace(machine, compile="off")
    return replace(
        source,
        name=new.run.name,
        machine=machine,
        origin=OriginConfig(facts["source"], None, facts["stage"]),
        mid=None,
        sft=sft,
        dpo=dpo,
        rl=None,
        eval=None,
    )


class Comparison(NamedTuple):
    """The old model beside the new one."""

    # of the person's held-out prompts: what was asked, and both answers
    answers: tuple[tuple[str, str, str], ...]
    # share of the held-out pairs of which the better answer is the likelier one
    preferred: tuple[float | None, float | None]
    # of the way that training went; less than 1 where more of it would have cost old skills
    share: float
    # of old skills, on questions that decided nothing
    skills: tuple[list[Result], list[Result]]


def compare(improvement: Improvement, old: Engine, new: Engine) -> Comparison:
    """Ask both models. Writes the new one's `evals/STAGE-chat.json`."""
    recipe, run, stage = improvement.recipe, improvement.run, improvement.stage
    pairs = improvement.held_out()
    asked = list(dict.fromkeys(pair.prompt for pair in pairs))
    watch = _watched(_trained(run))
    questions = (recipe.dpo or DPOConfig(data=PAIRS)).watch_questions
    _, tasks = watched_questions(watch, questions, open_sources(recipe, _nothing))
    before, after = (
        evaluate_chat(engine, engine.tokenizer, tasks, MOST_TOKENS) for engine in (old, new)
    )
    if tasks:
        facts = {"questions": max(map(len, tasks)), "samples": 1}
        write_chat(run, stage, after, [], **facts, seed=recipe.seed, temperature=0.0)
    said = (prompt.messages[-1].text for prompt in asked)
    return Comparison(
        tuple(zip(said, _replies(old, asked), _replies(new, asked), strict=True)),
        (_preferred(old, pairs), _preferred(new, pairs)),
        read_metrics(run.stage(stage) / "metrics.jsonl")[-1].get("share", 1.0),
        (before, after),
    )


def _preferred(engine: Engine, pairs: Sequence[Preference]) -> float | None:
    """In which share of the pairs that fit the context the better answer is the likelier one."""
    found = [
        (_logprob(engine, pair, pair.chosen), _logprob(engine, pair, pair.rejected))
        for pair in pairs
    ]
    known = [(a, b) for a, b in found if a is not None and b is not None]
    return sum(a > b for a, b in known) / len(known) if known else None


def _logprob(engine: Engine, pair: Preference, answer: Message) -> float | None:
    """The log-probability of an answer; None where it does not fit."""
    talk = render(engine.tokenizer, Conversation((*pair.prompt.messages, answer)))
    if len(talk.ids) >= engine.context:
        return None
    (done,) = engine.generate([Request(tuple(talk.ids), SamplingParams(max_tokens=1), echo=True)])
    scores = zip(done.prompt_logprobs, talk.mask[1:], strict=True)
    return sum(score for score, trained in scores if trained)


def _replies(engine: Engine, prompts: Sequence[Conversation]) -> Iterator[str]:
    """The likeliest answers, as a reader sees them; none to what does not fit the context."""
    sampling = SamplingParams(temperature=0.0, max_tokens=MOST_TOKENS)
    for prompt in prompts:
        ids = tuple(render_prompt(engine.tokenizer, prompt))
        if len(ids) >= engine.context:
            yield ""
            continue
        (done,) = engine.generate([Request(ids, sampling)])
        parts = parse_completion(engine.tokenizer, done.ids)
        yield "".join(part.text for part in parts if part.kind == "text").strip()


def _nothing(text: str) -> None:
    """For what was said when the pairs were taken."""
