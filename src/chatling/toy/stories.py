"""Word problems put together from clauses: a start, one or two changes, a question. A few lines
make some hundred thousand templates.

What a table of finished templates teaches is the templates; what generalizes is that each clause is
one step. `stories.toml` says how clauses are written.
"""

import re
from dataclasses import dataclass

from chatling.toy.facts import capitalized
from chatling.toy.language import Random


@dataclass(frozen=True)
class Problem:
    """A story, and the expressions that solve it, in which x is the result of the one before; both
    as `arithmetic.toml` writes them.
    """

    story: str
    steps: tuple[str, ...]


def one_step(rng: Random) -> Problem:
    """The clauses of two steps with one change, so
    that their number decides how many steps there are.
    """
    start, person = _start(rng)
    change, sign = _change(rng, "b")
    story = _join(rng, "two", start, change)
    return _problem(rng, story, _question(rng, sign, person), f"a{sign}b")


def two_steps(rng: Random) -> Problem:
    makers = (_changes, _product, _sum, _rate, _shared, _quotient)
    return rng.choices(makers, (30, 20, 18, 16, 6, 10))[0](rng)


def _problem(rng: Random, story: str, question: str, *steps: str) -> Problem:
    """A story and its question, told in one tense throughout."""
    tense, whole = rng.randrange(2), f"{story}{rng.language.gap}{question}"
    told = re.sub(r"\[([^|\]]+)\|([^\]]+)\]", lambda verb: verb[1 + tense], whole)
    return Problem(told, steps)


def _sentence(rng: Random, clause: str) -> str:
    return f"{capitalized(clause)}{rng.language.stop}"


def _clause(rng: Random, kind: str) -> str:
    return rng.choice(rng.language.table("stories")[kind])


def _start(rng: Random) -> tuple[str, bool]:
    """A clause, and whether it is a person who has the things."""
    person = rng.random() < 0.6
    return _clause(rng, "owned" if person else "placed"), person


def _change(rng: Random, number: str) -> tuple[str, str]:
    """A clause about one of the numbers, and the sign of its step."""
    gain = rng.random() < 0.45
    clause = _clause(rng, "gains" if gain else "losses")
    return clause.replace("{k}", f"{{{number}}}"), "+" if gain else "-"


def _question(rng: Random, sign: str, person: bool = False) -> str:
    if person and rng.random() < 0.5:
        return _clause(rng, "own")
    return _clause(rng, "in_all" if sign == "+" else "left")


def _join(rng: Random, ways: str, *clauses: str) -> str:
    """Clauses as sentences; those that begin one are capitalized."""
    slots = dict(zip("abc", clauses, strict=False))
    starts = {name.upper(): capitalized(clause) for name, clause in slots.items()}
    return _clause(rng, ways).format(**slots, **starts)


def _changes(rng: Random) -> Problem:
    """Something there, changed twice; now and then what was
    there before is told with the first change, or last.
    """
    start, person = _start(rng)
    (first, one), (second, two) = _change(rng, "b"), _change(rng, "c")
    luck = rng.random()
    if luck < 0.2:
        story, one, person = _join(rng, "two", _clause(rng, "taken"), second), "-", False
    elif luck < 0.35:
        before = _clause(rng, "before")
        story = f"{_join(rng, 'two', first, second)}{rng.language.gap}{before}"
    else:
        story = _join(rng, "three", start, first, second)
    return _problem(rng, story, _question(rng, two, person), f"a{one}b", f"x{two}c")


def _sum(rng: Random) -> Problem:
    change, sign = _change(rng, "c")
    story = _join(rng, "two", _clause(rng, "sums"), change)
    return _problem(rng, story, _question(rng, sign), "a+b", f"x{sign}c")


def _product(rng: Random) -> Problem:
    """Alike groups and a change, or something else beside them, told before or after."""
    product = _clause(rng, "products")
    if rng.random() < 0.35:
        start, _ = _start(rng)
        beside = start.replace("{a}", "{c}").replace("{n}", "{m}").replace(" a ", " another ")
        pair = (beside, product) if rng.random() < 0.6 else (product, beside)
        story = _join(rng, "beside", *pair)
        return _problem(rng, story, _clause(rng, "in_all"), "a*b", "x+c")
    change, sign = _change(rng, "c")
    story = _join(rng, "two", product, change)
    return _problem(rng, story, _question(rng, sign), "a*b", f"x{sign}c")


def _rate(rng: Random) -> Problem:
    """A change a day or a thing, and how often it happens."""
    table = rng.language.table("stories")
    first = rng.choice(sorted(table["rates"]))
    clause = rng.choice(table["rates"][first])
    question = rng.choice(next(asked for word, asked in table["times"].items() if word in clause))
    return _problem(rng, _sentence(rng, clause), question, first, "x*c")


def _shared(rng: Random) -> Problem:
    kind = rng.randrange(3)
    if kind == 0:
        start, _ = _start(rng)
        change, sign = _change(rng, "b")
        first, story = f"a{sign}b", _join(rng, "two", start, change)
    else:
        first, clauses = ("a+b", "sums") if kind == 1 else ("a*b", "products")
        story = _sentence(rng, _clause(rng, clauses))
    return _problem(rng, story, _clause(rng, "shared"), first, "x/c")


def _quotient(rng: Random) -> Problem:
    if rng.random() < 0.3:
        question = _clause(rng, "parts")
        story = _sentence(rng, _clause(rng, "parted"))
        return _problem(rng, story, question, "a/b", "x*c")
    change, sign = _change(rng, "c")
    story = _join(rng, "apart", _clause(rng, "quotients"), change)
    return _problem(rng, story, _clause(rng, "own"), "a/b", f"x{sign}c")
