"""Word problems put together from clauses: a start, one or two changes, a question. A few lines
make some hundred thousand templates.

What a table of finished templates teaches is the templates; what generalises is that each clause is
one step. In the clauses `[gives|gave]` is a verb in both tenses; n and m are people, i is the item;
a start's numbers are a and b, and k stands for a change's own.
"""

from __future__ import annotations

import re
from random import Random

from chatling.toy.relations import capitalised

Clauses = tuple[str, ...]


def _lines(text: str) -> Clauses:
    return tuple(text.strip().split("\n"))


OWNED = _lines("""
{n} [has|had] {a} {i}
{n} [owns|owned] {a} {i}
{n} [keeps|kept] {a} {i} in a box
{n} [brings|brought] {a} {i} to school
{n} [collects|collected] {a} {i}
{n} [finds|found] {a} {i} in the garden
{n} [makes|made] {a} {i}
{n} [buys|bought] {a} {i}
{n} [carries|carried] a bag with {a} {i}
{a} {i} [belong|belonged] to {n}
""")
PLACED = _lines("""
there [are|were] {a} {i} in a box
there [are|were] {a} {i} on the table
{a} {i} [lie|lay] in a basket
a bag [holds|held] {a} {i}
a shop [has|had] {a} {i}
a shelf [is|was] filled with {a} {i}
{n} [puts|put] {a} {i} into a basket
a box [is|was] packed with {a} {i}
the teacher [has|had] {a} {i} at school
""")
TAKEN = _lines("""
of {a} {i} {n} [gives|gave] {b} to {m}
{m} [takes|took] {b} from a box of {a} {i}
{n} [loses|lost] {b} of the {a} {i} in a bag
{b} of the {a} {i} on the table [are|were] used up
{n} [sells|sold] {m} {b} of {a} {i}
from a bag of {a} {i} {n} [picks|picked] {b}
""")
GAINS = _lines("""
{n} [gets|got] {k} more
{n} [buys|bought] {k} more
{n} [buys|bought] {k} new ones
{n} [finds|found] {k} more {i}
{n} [finds|found] another {k}
{n} [makes|made] {k} new {i}
{m} [gives|gave] {n} {k} more
{m} [brings|brought] {k} more {i}
{n} [adds|added] {k}
{n} [is|was] given {k} {i}
{k} more [come|came] from {m}
{m} [has|had] {k} {i} for {n}
a friend [brings|brought] {k} new ones
""")
LOSSES = _lines("""
{n} [gives|gave] {k} to {m}
{n} [gives|gave] {k} {i} away
{n} [gives|gave] away {k} of them
{n} [loses|lost] {k}
{n} [loses|lost] {k} of them
{n} [sells|sold] {k}
{n} [sells|sold] {k} {i} to {m}
{m} [takes|took] {k} of them
{m} [takes|took] {k} {i} away
{m} [gets|got] {k} of the {i}
{k} [break|broke]
{k} of them [are|were] lost
{k} {i} [are|were] sold
{n} [uses|used] {k}
{k} [are|were] used up
{n} [takes|took] out {k}
{m} [picks|picked] {k} of them
{n} [hands|handed] {k} to a friend
""")
SUMS = _lines("""
{n} [has|had] {a} {i} and {m} [has|had] {b}
{n} [has|had] {a} {i} at home and {b} in a bag
{a} red {i} and {b} blue {i} [lie|lay] on the table
{n} [finds|found] {a} {i} in the morning and {b} in the evening
there [are|were] {a} {i} in one box and {b} in another
a shop [has|had] {a} old {i} and {b} new ones
{n} [brings|brought] {a} {i}, {m} [brings|brought] {b}
{n} [gets|got] {a} {i} from {m} and {b} from a friend
{n} [buys|bought] {a} {i} on Monday and {b} on Friday
a basket [holds|held] {a} small {i} and {b} big ones
{m} [puts|put] {b} {i} on the table and {n} [puts|put] {a} there
the first bag [holds|held] {a} {i}, the second bag [holds|held] {b}
{n} [has|had] {a} {i} from yesterday and {b} from today
""")
PRODUCTS = _lines("""
{n} [has|had] {a} bags with {b} {i} in each
{n} [has|had] {a} bags and in each bag [are|were] {b} {i}
{n} [buys|bought] {a} boxes of {b} {i}
there [are|were] {a} shelves with {b} {i} on each
there [are|were] {a} boxes and each of them [holds|held] {b} {i}
each of {a} baskets [holds|held] {b} {i}
each of {a} children [brings|brought] {b} {i}
{a} children [get|got] {b} {i} each
{a} friends [find|found] {b} {i} each
every one of {a} boxes [has|had] {b} {i} in it
{n} [gets|got] {b} {i} a day for {a} days
{n} [makes|made] {b} {i} every day for {a} days
for {a} weeks {n} [buys|bought] {b} {i} a week
{n} [lays|laid] {a} rows of {b} {i}
{n} [puts|put] {b} {i} on each of {a} tables
{n} [puts|put] {b} {i} into every one of {a} bags
{a} bags of {b} {i} [are|were] on the table
""")
QUOTIENTS = _lines("""
{b} children [share|shared] {a} {i} equally, and {n} [is|was] one of them
{a} {i} [are|were] shared equally by {b} friends, one of them {n}
{n} and the others, {b} children in all, [split|split] {a} {i} equally
{n} [gets|got] an equal part when {a} {i} [are|were] split between {b} friends
the teacher [gives|gave] {a} {i} to {b} children, {n} among them, as many to each
""")
PARTED = _lines("""
{n} [puts|put] {a} {i} into {b} equal bags
{n} [splits|split] {a} {i} into {b} equal parts
{a} {i} [are|were] packed in {b} boxes, the same number in each
""")
RATES = {  # a change a day or a thing, then how often
    "a+b": _lines("""
every day {n} [gets|got] {a} {i} in the morning and {b} in the evening
{n} [finds|found] {a} {i} at school and {b} at home each day
a box [holds|held] {a} red {i} and {b} blue ones
each child [gets|got] {a} {i} from {n} and {b} from {m}
each bag [has|had] {a} old {i} and {b} new {i} in it
{n} [makes|made] {a} {i} a day and {m} [makes|made] {b} a day
every child [brings|brought] {a} small {i} and {b} big ones
"""),
    "a-b": _lines("""
every day {n} [makes|made] {a} {i} and [sells|sold] {b}
each day {n} [finds|found] {a} {i} but [loses|lost] {b} of them
{n} [buys|bought] {a} {i} a day and [gives|gave] {b} to {m}
of the {a} {i} in each box {b} [are|were] broken
every bag [holds|held] {a} {i}, and {m} [takes|took] {b} out of each
each child [gets|got] {a} {i} and [loses|lost] {b}
{n} [gets|got] {a} {i} every week, of which {b} [go|went] to {m}
"""),
}
TIMES = {  # what the rate is counted by, found by a word of the clause
    "day": (
        "How many {i} is that in {c} days?",
        "How many {i} are there after {c} days?",
        "How many {i} does that make in {c} days?",
    ),
    "week": ("How many {i} is that in {c} weeks?", "How many {i} are there after {c} weeks?"),
    "child": (
        "There [are|were] {c} children. How many {i} do they have?",
        "How many {i} do {c} children have together?",
        "How many {i} is that for {c} children?",
        "{c} children [are|were] there. How many {i} is that in all?",
    ),
    "box": (
        "How many {i} are in {c} boxes like that?",
        "{n} [has|had] {c} of these boxes. How many {i} does {n} have?",
    ),
    "bag": (
        "How many {i} are in {c} bags?",
        "There [are|were] {c} such bags. How many {i} are there?",
    ),
}
SHARED = _lines("""
{c} children [share|shared] all of them equally. How many {i} does each child get?
They [are|were] split equally between {c} friends. How many {i} does each friend get?
All of them [are|were] put into {c} equal bags. How many {i} are in each bag?
The rest [is|was] packed in {c} boxes, the same in each. How many {i} are in one box?
""")
IN_ALL = (
    "How many {i} are there?",
    "How many {i} is that in all?",
    "How many {i} are there now?",
    "How many {i} are there together?",
    "How many {i} do they have together?",
    "What is the number of {i} now?",
)
LEFT = (
    "How many {i} are left?",
    "How many {i} remain?",
    "How many {i} are still there?",
    "How many {i} are left over?",
    "How many {i} are there now?",
    "What is the number of {i} left?",
)
OWN = (
    "How many {i} does {n} have now?",
    "How many {i} does {n} have?",
    "How many {i} does {n} have in the end?",
)
JOINED = (
    "{A}. {B}. {C}.",
    "{A}. {B} and {c}.",
    "{A}. Then {b} and {c}.",
    "{A}. First {b}, then {c}.",
    "{A}. {B}. Then {c}.",
    "{A}, but {b}. {C}.",
    "{A}. On Monday {b} and on Tuesday {c}.",
    "{A}. {B}, later {c}.",
    "{A} and {b}. Then {c}.",
    "{A}. After that {b}, and {c}.",
)
PAIRED = (
    "{A}. {B}.",
    "{A} and {b}.",
    "{A}. Then {b}.",
    "{A}, then {b}.",
    "{A}, but {b}.",
    "{A}. Later {b}.",
)


def two_steps(rng: Random) -> tuple[tuple[str, ...], str]:
    """Steps and story of a problem of two steps, as in `arithmetic.Problem`."""
    return rng.choices(
        (_changes, _product, _sum, _rate, _shared, _quotient), (30, 20, 18, 16, 6, 10)
    )[0](rng)


def one_step(rng: Random) -> tuple[tuple[str, ...], str]:
    """The same clauses with one change, so that their number decides how many steps there are."""
    start, person = _start(rng)
    change, sign = _change(rng, "b")
    story = _join(rng, PAIRED, start, change)
    return (f"a{sign}b",), _told(rng, f"{story} {_question(rng, sign, person)}")


def _start(rng: Random) -> tuple[str, bool]:
    person = rng.random() < 0.6
    return rng.choice(OWNED if person else PLACED), person


def _change(rng: Random, number: str) -> tuple[str, str]:
    gain = rng.random() < 0.45
    return rng.choice(GAINS if gain else LOSSES).replace("{k}", f"{{{number}}}"), (
        "+" if gain else "-"
    )


def _question(rng: Random, sign: str, person: bool) -> str:
    return rng.choice(OWN if person and rng.random() < 0.5 else IN_ALL if sign == "+" else LEFT)


def _changes(rng: Random) -> tuple[tuple[str, ...], str]:
    """Something there, changed twice; now and then what was there before is told with the first
    change, or last.
    """
    start, person = _start(rng)
    (first, one), (second, two) = _change(rng, "b"), _change(rng, "c")
    luck = rng.random()
    if luck < 0.2:
        story, one, person = _join(rng, PAIRED, rng.choice(TAKEN), second), "-", False
    elif luck < 0.35:
        before = rng.choice(
            (
                "Before that there were {a} {i}.",
                "At first there were {a} {i}.",
                "{n} had {a} {i} before.",
            )
        )
        story = f"{_join(rng, PAIRED, first, second)} {before}"
    else:
        story = _join(rng, JOINED, start, first, second)
    return (f"a{one}b", f"x{two}c"), _told(rng, f"{story} {_question(rng, two, person)}")


def _sum(rng: Random) -> tuple[tuple[str, ...], str]:
    change, sign = _change(rng, "c")
    return ("a+b", f"x{sign}c"), _told(
        rng, f"{_join(rng, PAIRED, rng.choice(SUMS), change)} {_question(rng, sign, False)}"
    )


def _product(rng: Random) -> tuple[tuple[str, ...], str]:
    """Alike groups and a change, or something else beside them, told before or after."""
    product = rng.choice(PRODUCTS)
    if rng.random() < 0.35:
        start, _ = _start(rng)
        beside = start.replace("{a}", "{c}").replace("{n}", "{m}").replace(" a ", " another ")
        pair = (beside, product) if rng.random() < 0.6 else (product, beside)
        return ("a*b", "x+c"), _told(rng, f"{_join(rng, PAIRED[:2], *pair)} {rng.choice(IN_ALL)}")
    change, sign = _change(rng, "c")
    return ("a*b", f"x{sign}c"), _told(
        rng, f"{_join(rng, PAIRED, product, change)} {_question(rng, sign, False)}"
    )


def _rate(rng: Random) -> tuple[tuple[str, ...], str]:
    first = rng.choice(sorted(RATES))
    clause = rng.choice(RATES[first])
    word = next(word for word in TIMES if word in clause)
    return (first, "x*c"), _told(rng, f"{capitalised(clause)}. {rng.choice(TIMES[word])}")


def _shared(rng: Random) -> tuple[tuple[str, ...], str]:
    kind = rng.randrange(3)
    if kind == 0:
        start, _ = _start(rng)
        change, sign = _change(rng, "b")
        first, story = f"a{sign}b", _join(rng, PAIRED, start, change)
    else:
        first, story = (
            ("a+b", capitalised(rng.choice(SUMS)) + ".")
            if kind == 1
            else ("a*b", capitalised(rng.choice(PRODUCTS)) + ".")
        )
    return (first, "x/c"), _told(rng, f"{story} {rng.choice(SHARED)}")


def _quotient(rng: Random) -> tuple[tuple[str, ...], str]:
    if rng.random() < 0.3:
        ask = rng.choice(
            ("How many {i} are in {c} of them?", "How many {i} is that in {c} of them together?")
        )
        return ("a/b", "x*c"), _told(rng, f"{capitalised(rng.choice(PARTED))}. {ask}")
    change, sign = _change(rng, "c")
    story = _join(
        rng, ("{A}. {B}.", "{A}. Then {b}.", "{A}. Later {b}."), rng.choice(QUOTIENTS), change
    )
    return ("a/b", f"x{sign}c"), _told(rng, f"{story} {rng.choice(OWN)}")


def _join(rng: Random, ways: Clauses, *clauses: str) -> str:
    """Clauses as sentences; those that begin one are capitalised."""
    named = zip("abc", clauses, strict=False)
    return rng.choice(ways).format(
        **{key: value for small, clause in named for key, value in _both(small, clause)}
    )


def _both(small: str, clause: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (small, clause), (small.upper(), capitalised(clause))


def _told(rng: Random, story: str) -> str:
    """In one tense throughout."""
    tense = rng.randrange(2)
    return re.sub(r"\[([^|\]]+)\|([^\]]+)\]", lambda verb: verb[1 + tense], story)
