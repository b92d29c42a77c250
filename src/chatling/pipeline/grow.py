"""An assistant from a user's own files: what was understood of them, the conversations that are
made of it, a recipe sized to them, and the run.

All of it lies in `data/<run>/` of the home folder, as files that can be read.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from chatling.bench.train import reached_flops
from chatling.config.recipe import Recipe, load_recipe
from chatling.config.stages import OriginConfig
from chatling.data.facts import Fact
from chatling.data.splits import CONVERSATIONS_ONE_IN as ONE_IN
from chatling.errors import DataError
from chatling.files import building_folder, read_json, write_atomic
from chatling.hardware.detect import detect
from chatling.importing.origin import settle
from chatling.messages import Conversation
from chatling.pipeline.checks import check
from chatling.pipeline.grow_files import Understood, Wish
from chatling.pipeline.plan import Plan, plan
from chatling.pipeline.timetable import Throughput, timetable
from chatling.run_dir import RunFolder, find_run
from chatling.tasks.task import visible_text
from chatling.toy import topics
from chatling.toy.language import CHINESE, ENGLISH
from chatling.toy.own_world import Held, OwnWorld
from chatling.toy.packs import LANGUAGES
from chatling.toy.world import conversations

CONVERSATIONS, QUESTIONS, FACTS, TEXT, RECIPE, RECORD = (
    "conversations.jsonl",
    "held-out.jsonl",
    "facts.jsonl",
    "text",
    "recipe.toml",
    "grow.json",
)
WORLDS = {"en": ENGLISH, "zh": CHINESE}  # the built-in world of a language
# of the conversations, the built-in world's part: no facts and no small talk, which would answer
# for what nobody told
WORLD_SHARE = 0.12
WORLD_WEIGHTS = {"arithmetic": 0.6, "unknown": 0.3, "unsafe": 0.1}
LEAST, MOST = 2_000, 400_000  # conversations
BASE_STEPS = 50
BATCHES = {20_000: 1024, 70_000: 2048, MOST: 4096}  # conversations up to which -> tokens of a step
TEXT_CHARACTERS = 1_500_000  # that base reads, at most twice
CONTEXTS = (128, 256, 512, 1024)
SLACK, TIMED = 0.95, 0.9  # of the minutes: by a plan; by a step timed alone, which is quicker
FEW_WORDINGS = 40
ADAPTER = """
[sft.adapter]
rank = 16
alpha = 32.0
"""


def context_for(facts: Sequence[Fact]) -> int:
    """The smallest context that holds the longest fact with its earlier turns, in a vocabulary of
    this size.
    """
    longest = max(
        len("".join((*fact.before, fact.question, fact.answer)).encode()) for fact in facts
    )
    needed = 40 + longest / 2
    return next((size for size in CONTEXTS if size >= needed), CONTEXTS[-1])


def made_world(wish: Wish, seen: Understood, count: int) -> list[Conversation]:
    """Conversations of the built-in world of the language, in which it has the assistant's name."""
    language = WORLDS.get(seen.code or "")
    if language is None or wish.origin is not None:
        return []
    made = conversations(1, count, WORLD_WEIGHTS, language)
    return [_renamed(talk, language.table("grammar")["name"], wish.name) for talk in made]


def _renamed(talk: Conversation, old: str, new: str) -> Conversation:
    name = re.compile(re.escape(old), re.IGNORECASE)
    return Conversation(
        tuple(
            replace(
                m, parts=tuple(replace(p, text=name.sub(lambda _: new, p.text)) for p in m.parts)
            )
            for m in talk.messages
        )
    )


def write_data(wish: Wish, seen: Understood, count: int, seed: int = 1) -> None:
    """Write facts, held-out questions, conversations and text. Files whose content is the same stay
    untouched.
    """
    folder, context = wish.folder, context_for(seen.facts)
    folder.mkdir(parents=True, exist_ok=True)
    builtin = made_world(wish, seen, int(WORLD_SHARE * count))
    said = [message.text for talk in builtin[:5_000] for message in talk.messages]
    world = OwnWorld(seen.facts, seen.pack, wish.name, [*seen.texts, *said])
    held = world.held_out(seed)
    reserved = {talk.conversation.prompt.messages[-1].text.lower() for talk in held}
    stream = chain(builtin, world.conversations(seed, context))
    fresh = (
        talk for talk in stream if not any(m.text.lower() in reserved for m in talk.messages[::2])
    )
    talks = list(islice(fresh, count))
    Random(seed).shuffle(talks)
    # a mixture holds out the first fiftieth of all
    first = [held[i % len(held)].conversation for i in range(max(1, len(talks) // (ONE_IN - 1)))]
    _write_lines(folder / FACTS, [_fact_row(fact, world) for fact in seen.facts])
    _write_lines(folder / QUESTIONS, [each.to_dict() for each in held])
    _write_lines(folder / CONVERSATIONS, [talk.to_dict() for talk in (*first, *talks)])
    _write_text(folder / TEXT, seen, talks, held)


def _fact_row(fact: Fact, world: OwnWorld) -> dict[str, object]:
    asked = fact.question or ": ".join(filter(None, (fact.subject, fact.attribute)))
    return {"before": fact.before, "asked": asked, "answer": world.words.answer(fact)}


def _write_lines(path: Path, rows: Sequence[object]) -> None:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not path.exists() or path.read_text("utf-8") != data:
        write_atomic(path, data)


def _write_text(
    folder: Path, seen: Understood, talks: Sequence[Conversation], held: Sequence[Held]
) -> None:
    """What tokenizer and base read: the user's texts, and conversations as prose. It stays as it is
    while the texts do, so that what base has learned need not be learned again.
    """
    record, texts = folder.parent / RECORD, [text for text in seen.texts if text.strip()]
    if folder.exists() and record.exists() and read_json(record)["texts"] == text_mark(seen):
        return
    told, size = list[str](), 0
    for talk in talks:
        if size > TEXT_CHARACTERS:
            break
        told.append(" ".join(visible_text(message.parts) for message in talk.messages))
        size += len(told[-1])
    repeated = texts * max(1, min(20, TEXT_CHARACTERS // 4 // max(1, sum(map(len, texts)))))
    documents = [*repeated, *told]
    Random(1).shuffle(documents)
    aside = [*(each.conversation.messages[-1].text for each in held), *told[-50:]]
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with building_folder(folder) as building:
        for i, part in enumerate((documents, aside)):
            table = pa.table({"text": pa.array(part, pa.string())})
            pq.write_table(table, building / f"shard_{i:05d}.parquet", row_group_size=1024)


def text_mark(seen: Understood) -> str:
    text = "\0".join((seen.code or "", *seen.texts))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def recipe_text(wish: Wish, seen: Understood, count: int) -> str:
    """The recipe, with a line on why each size is what it is."""
    folder, context, facts = wish.folder, context_for(seen.facts), len(seen.facts)
    talks = json.dumps(str(folder / CONVERSATIONS), ensure_ascii=False)
    questions = json.dumps(str(folder / QUESTIONS), ensure_ascii=False)
    head = f"""# Written by `chatling grow`: {facts:,} facts, {count:,} conversations about them.
name = "{wish.run_name}"
seed = 1
"""
    tail = f"""
[eval]
chat = [{questions}]  # questions in wordings that no conversation has

[loop]
save_every = 200
evaluate_every = 200
"""
    if wish.origin is not None:
        source = json.dumps(str(OriginConfig(wish.origin).anchored().source), ensure_ascii=False)
        return f"""{head}
[origin]
source = {source}

[sft]
packed = false
batch_conversations = 16
learning_rate_fraction = 0.1
mixture = [{{task = {talks}}}]
{tail}"""
    batch = _batch(count)
    vocab = 4096 if seen.pack.wide else 2048
    return f"""{head}
[model]
depth = 2
width = 192
head_width = 48
context = {context}  # holds the longest answer

[tokenizer]
vocab_size = {vocab}

[data]
source = {json.dumps(str(folder / TEXT), ensure_ascii=False)}

[optim]
embedding_lr = 0.04

[base]
steps = {BASE_STEPS}
batch_tokens = {batch}
warmup = 12
warmdown = 0.5
validation_tokens = 65536

[mid]
packed = true
batch_tokens = {batch}
warmup = 20
warmdown = 0.8
answers_only = true  # how people type is nothing to imitate
mixture = [{{task = {talks}}}]
{tail}"""


def prepare(wish: Wish, seen: Understood, note: Callable[[str], None]) -> Recipe:
    """Write all that the run reads, and say what it is. Sizes that an earlier call for as many
    minutes chose stay, so that the run resumes.
    """
    record = wish.folder / RECORD
    if wish.folder.exists() and not record.exists() and not (wish.folder / FACTS).exists():
        raise DataError(
            f"{wish.folder} is there already and was not written by `chatling grow`.",
            "Choose another name with --run.",
        )
    earlier = read_json(record) if record.exists() else {}
    asked = {"minutes": wish.minutes, "origin": wish.origin}
    if not seen.pack.language:
        note(
            f"There is no language pack for {seen.code or 'the language of these files'}, so no"
            " greetings, no rephrasing and no honest answer to what is unknown; packs:"
            f" {', '.join(LANGUAGES)}."
        )
    if {key: earlier.get(key) for key in asked} == asked:
        count = int(earlier["conversations"])
    else:
        note(f"How much fits into {wish.minutes:g} minutes is measured …")
        count = _fitting(wish, seen)
    recipe = written(wish, seen, count, note)
    mark = {**asked, "conversations": count, "texts": text_mark(seen)}
    write_atomic(record, json.dumps(mark) + "\n")
    note(
        f"{len(seen.facts):,} facts in {seen.pack.language or 'an unknown language'}; {count:,}"
        f" conversations about them, each fact in about {_times(seen, count):,} wordings."
    )
    if (times := _times(seen, count)) < FEW_WORDINGS:
        note(
            f"Asked in {times:,} wordings each, most facts will not be kept by so small a model:"
            " give it more --minutes, fewer files, or an --origin. A model with a long context can"
            " look them up instead: `chatling serve RUN --documents FOLDER`."
        )
    if seen.contradictions:
        note(f"Questions that came up again, whose first answer counts: {seen.contradictions:,}.")
    if (asked_of := sum(bool(fact.question) for fact in seen.facts)) > topics.COMPARED:
        note(
            f"What your questions are about is found in the first {topics.COMPARED:,} of them; of"
            f" the other {asked_of - topics.COMPARED:,} no questions about made-up names are made."
        )
    note(f"All that it learns from, and the recipe: {wish.folder}")
    return recipe


def _times(seen: Understood, count: int) -> int:
    """How often a fact is asked, about: so many turns a conversation, so many of them facts."""
    return round(count * 1.1 / len(seen.facts))


def written(
    wish: Wish, seen: Understood, count: int, note: Callable[[str], None] = lambda line: None
) -> Recipe:
    """Write data and recipe. Where an origin is too large to be trained whole on this machine, an
    adapter learns.
    """
    write_data(wish, seen, count)
    path, text = wish.folder / RECIPE, recipe_text(wish, seen, count)
    write_atomic(path, text)
    recipe = load_recipe(str(path))
    if wish.origin is None:
        return recipe
    settled = settle(recipe, RunFolder(find_run(wish.run_name)), note)
    if check(settled).too_large is not None:
        note("The origin is too large to be trained whole here: an adapter learns (LoRA).")
        write_atomic(path, text + ADAPTER)
    return load_recipe(str(path))


def _fitting(wish: Wish, seen: Understood) -> int:
    """How many conversations fill the minutes on this machine: with an origin by the plan's
    reckoning; else by a step, since what so small a model reaches of the machine's matrix products
    no rule foretells.
    """
    recipe = written(wish, seen, LEAST)
    if wish.origin is not None:
        recipe = settle(recipe, RunFolder(find_run(wish.run_name)), lambda line: None)
    outline = plan(recipe, survey=check(recipe).survey)
    if wish.origin is not None:
        return _filling(60 * wish.minutes * SLACK, outline, Throughput.measured(detect()))
    count, batch = MOST, 0
    while batch != _batch(count):  # fewer conversations take smaller steps, which reach less
        batch = _batch(count)
        reached = Throughput(reached_flops(recipe, batch))
        count = min(count, _filling(60 * wish.minutes * TIMED, outline, reached))
    return count


def _batch(count: int) -> int:
    """Tokens of a step for so many conversations."""
    return next(size for most, size in BATCHES.items() if count <= most)


def _filling(seconds: float, outline: Plan, rates: Throughput) -> int:
    took = {each.name: each.total for each in timetable(outline, rates)}
    # an origin has SFT alone, for all of them
    each = took.pop("mid", None) or took.pop("sft")
    return max(LEAST, min(MOST, int((seconds - sum(took.values())) / (each / LEAST))))
