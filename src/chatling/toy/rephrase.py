"""A question in other words of its kind: another frame, order and case, little words left out,
typos. Nothing is added that would change what is asked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random

from chatling.toy.packs import LETTERS, WORD, Pack, load_pack

PARTS = re.compile(r"\[([^]]*)\]")
MARKS = " .!?。！？:：,，;；…"
# how often a question keeps its order, its little words go, its content words change places, it
# becomes a clause, its topic stands first; added up
WAYS = (0.34, 0.52, 0.64, 0.84, 1.0)
MOVED = 0.3  # of those that keep it, one word is somewhere else
FRAMED, TYPO, LOWER, UPPER, UNMARKED = 0.6, 0.3, 0.25, 0.06, 0.3
# of questions in one kind of wording: any words beside them, half of the time those of the frames
CHATTER = 0.3
STORIES = 0.06  # and with a story around it


@dataclass(frozen=True)
class Word:
    """A word of a question, or of a language without blanks a run of signs."""

    text: str
    kind: str  # "question", "function" or "content"


def split(question: str, pack: Pack) -> tuple[Word, ...]:
    """A question's words, in order, without its marks."""
    return _split(question, pack.code, pack.wide, *_words(pack))


def _words(pack: Pack) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return pack.words.get("question", ()), pack.words.get("function", ())


@lru_cache(maxsize=100_000)
def _split(
    question: str, code: str, wide: bool, asking: tuple[str, ...], small: tuple[str, ...]
) -> tuple[Word, ...]:
    if wide:
        known = "|".join(map(re.escape, sorted((*asking, *small), key=len, reverse=True)))
        found = re.findall(rf"{known}|[A-Za-z0-9.@:/-]+|.", question)
        runs: list[Word] = []
        for text in found:
            if text in MARKS or text in "、“”「」（）()":
                continue
            kind = "question" if text in asking else "function" if text in small else "content"
            if kind == "content" and runs and runs[-1].kind == kind and len(runs[-1].text) < 6:
                text = runs.pop().text + text
            runs.append(Word(text, kind))
        return tuple(runs)
    return tuple(
        Word(
            text,
            "question"
            if text.lower() in asking
            else "function"
            if text.lower() in small
            else "content",
        )
        for text in WORD.findall(question)
    )


def content(question: str, pack: Pack) -> frozenset[str]:
    """What a question asks about: its content words, in lower case."""
    return frozenset(p.text.lower() for p in split(question, pack) if p.kind == "content")


def asking(question: str, pack: Pack) -> frozenset[str]:
    """The words by which it asks, in lower case."""
    return frozenset(p.text.lower() for p in split(question, pack) if p.kind == "question")


def rephrase(
    question: str, pack: Pack, rng: Random, held_out: bool = False, bare: bool = True
) -> str:
    """The question as another person would type it. With `bare`, its content words alone tell it
    from all others, so that the question word may go, too.
    """
    words, luck = split(question, pack), rng.random()
    inside = [p for p in words if p.kind == "content"]
    asking = [p.text for p in words if p.kind == "question"]
    if len(inside) < 2 and luck > WAYS[0]:
        luck = rng.choice([way - 0.01 for way in (WAYS[0], WAYS[3], *(WAYS[4:] if inside else ()))])
    join = pack.joiner.join
    text = question.strip().rstrip(MARKS)
    if luck < MOVED * WAYS[0] and not pack.wide and len(words) > 2:
        text = moved(text, rng)
    elif luck < WAYS[0]:
        pass
    elif luck < WAYS[1]:
        drop = rng.choice((0.5, 1.0))
        text = join(p.text for p in words if p.kind != "function" or rng.random() > drop)
    elif luck < WAYS[2]:
        mixed = [p.text for p in inside]
        rng.shuffle(mixed)
        text = join([*asking, *mixed] if rng.random() < 0.6 else [*mixed, *asking])
    elif luck < WAYS[3]:
        text = clause(words, pack)
    elif topics := pack.frames["topic"]:
        mixed = [p.text for p in inside]
        if rng.random() < 0.3:
            rng.shuffle(mixed)
        forms = [each for each in topics if (asking if "{w}" in each else bare and len(inside) > 1)]
        if forms:
            form = rng.choice(forms)
            return hurried(form.format(t=join(mixed), w=join(asking)), pack, rng)
    return hurried(framed(text, pack, rng, held_out), pack, rng)


def moved(text: str, rng: Random) -> str:
    """One word at another place: often the last one, and often at the beginning."""
    words = text.split()
    word = words.pop(-1 if rng.random() < 0.5 else rng.randrange(len(words)))
    words.insert(0 if rng.random() < 0.5 else rng.randint(0, len(words)), word)
    return " ".join(words)


def clause(words: tuple[Word, ...], pack: Pack) -> str:
    """ "when the shop opens" of "When does the shop open": no helping verb, or at the end."""
    texts = [p.text for p in words]
    after = next((i for i, p in enumerate(words) if p.kind != "question"), 0)
    if 0 < after < len(texts):
        helper = texts[after].lower()
        if helper in pack.words.get("dropped", ()):
            del texts[after]
        elif helper in pack.words.get("last", ()) or pack.verb_last:
            texts.append(texts.pop(after))
    return pack.joiner.join(texts)


def helped(words: Sequence[str], pack: Pack, rng: Random) -> list[str]:
    """Words with a helping verb in front: one of theirs, or now and then another one."""
    adding, helping = pack.words["dropped"], pack.words["copulas"]
    own = [i for i, word in enumerate(words) if word.lower() in (*adding, *helping)]
    luck = rng.random()
    if own and luck < 0.6:
        at = rng.choice(own)
        return [words[at], *words[:at], *words[at + 1 :]]
    helpers = (*adding, *helping)
    return [rng.choice(helpers), *words] if adding and luck > 0.75 else list(words)


def framed(text: str, pack: Pack, rng: Random, held_out: bool = False) -> str:
    """A question without its mark in one of the pack's frames; most frames in one kind of
    wording.
    """
    frames = pack.frames["held_out" if held_out else "training"]
    if not held_out and rng.random() < CHATTER and pack.language:
        words = _frame_words(pack.code) if rng.random() < 0.5 else _other_words(pack.code)
        said = pack.joiner.join(rng.choices(words, k=rng.randint(1, 4)))
        pair = [lowered(text, pack), said]
        rng.shuffle(pair)
        return ("，" if pack.wide else ", ").join(pair) + rng.choice((pack.mark, "", "."))
    frame = rng.choice(frames) if held_out or rng.random() < FRAMED else "{Q}"
    if not held_out and pack.unknown and rng.random() < STORIES:
        frame = rng.choice(pack.frames["stories"])
    asked = text + pack.mark
    return frame.format(
        Q=asked[:1].upper() + asked[1:],
        q=lowered(asked, pack),
        b=lowered(text, pack),
    )


@cache
def _frame_words(code: str) -> tuple[str, ...]:
    """What people say beside a question: the words of a language's frames."""
    pack = load_pack(code)
    bare = [frame.format(Q="", q="", b="") for frame in pack.frames["training"]]
    return tuple(word.text.lower() for frame in bare for word in split(frame, pack))


@cache
def _other_words(code: str) -> tuple[str, ...]:
    """What else they may say, so that strange words beside a question are no strange name in it:
    the words of small talk; of a language without blanks signs, those of things among them.
    """
    pack = load_pack(code)
    texts = [t.format(name="", t="") for each in pack.smalltalk.values() for t in each["training"]]
    if pack.wide:
        signs = "".join([*texts, *pack.unknown["things"]])
        return tuple(sorted({sign for sign in signs if "\u4e00" <= sign <= "\u9fff"}))
    words = [w for text in texts for w in split(text, pack) if w.kind != "question"]
    return tuple(sorted({word.text.lower() for word in words}))


def lowered(text: str, pack: Pack) -> str:
    """Without the capital of a sentence's first word, where that is a little word."""
    first = text.partition(" ")[0]
    small = {*pack.words.get("question", ()), *pack.words.get("function", ())}
    return text[:1].lower() + text[1:] if first.lower() in small and first != "I" else text


def one_of(texts: Sequence[str], rng: Random) -> str:
    """A text, with one of the parts of each `[one|other]` in it; one with more of these comes up
    more often.
    """
    text = rng.choices(texts, [1 + text.count("[") for text in texts])[0]
    return PARTS.sub(lambda found: rng.choice(found[1].split("|")), text)


def hurried(text: str, pack: Pack, rng: Random) -> str:
    """What haste does: a typo, no capitals, no mark."""
    if rng.random() < TYPO:
        text = typo(text, pack, rng)
    if rng.random() < UNMARKED:
        text = text.rstrip(MARKS) or text
    luck = rng.random()
    return text.lower() if luck < LOWER else text.upper() if luck > 1 - UPPER else text


def typo(text: str, pack: Pack, rng: Random) -> str:
    """One slip: signs swapped, left out or doubled, or one for another that the pack names."""
    swaps = [pair for pair in pack.typos.get("replaced", ()) if pair[0] in text]
    if swaps and rng.random() < (0.7 if pack.wide else 0.3):
        wrong, typed = rng.choice(swaps)
        places = [match.start() for match in re.finditer(re.escape(wrong), text)]
        at = rng.choice(places)
        return text[:at] + typed + text[at + len(wrong) :]
    words = [match for match in LETTERS.finditer(text) if len(match[0]) >= (3 if pack.wide else 4)]
    if not words:
        return text
    word = rng.choice(words)
    at = word.start() + rng.randrange(len(word[0]) - 1)
    a, b = text[at], text[at + 1]
    slip = rng.choice((b + a, b + a, b + a, a, b, a + a + b))
    return text[:at] + slip + text[at + 2 :]
