"""The facts of the pocket world as slots of templates: `facts.toml`, and what is made from it."""

from __future__ import annotations

from functools import cache
from itertools import combinations, pairwise, product

from chatling.tasks.tables import load_table

Slots = dict[str, str]


def capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """ "a cow", "an owl"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def inflected(slots: Slots) -> Slots:
    """The slots, and the forms that follow from them: possessives, nouns with their article."""
    if name := slots.get("c"):
        possessive = f"{name}'" if name.endswith("s") else f"{name}'s"
        return slots | {"cs": possessive, "bare": name.removeprefix("the ")}
    nouns = {"an": "s", "a_kind": "kind", "a_sound": "sound", "a_young": "young"}
    forms = {form: with_article(slots[of]) for form, of in nouns.items() if slots.get(of)}
    if home := slots.get("lives"):
        forms["place"] = home.split(" ", 1)[1]
    return slots | forms


@cache
def rows(table: str) -> tuple[Slots, ...]:
    """The rows of a table, each as slots."""
    if table in MADE:
        return tuple(MADE[table]())
    given = load_table("toy/facts.toml")[table]
    return tuple(inflected(dict(zip(given["columns"], row, strict=True))) for row in given["rows"])


def _both_ways() -> list[Slots]:
    """Each of two opposites is asked for."""
    return [
        {"x": x, "a": a}
        for row in rows("opposites")
        for x, a in (row.values(), reversed(row.values()))
    ]


def _after() -> list[Slots]:
    return [
        {"unit": sequence["unit"], "x": x, "a": a}
        for sequence in load_table("toy/facts.toml")["sequences"]
        if sequence["cyclic"]
        for x, a in pairwise((*sequence["names"], sequence["names"][0]))
    ]


def _before() -> list[Slots]:
    return [slots | {"x": slots["a"], "a": slots["x"]} for slots in _after()]


def _order() -> list[Slots]:
    table = load_table("toy/facts.toml")
    return [
        {"unit": sequence["unit"], "of": sequence["of"], "n": n, "a": a}
        for sequence in table["sequences"]
        for n, a in zip(table["ordinals"], sequence["names"], strict=False)
    ]


def _compared() -> list[Slots]:
    """Any two things of different size, asked either way round."""
    return [
        {"x": x, "y": y, "a": a, "other": other, "more": more}
        for smaller, larger in combinations(load_table("toy/facts.toml")["sizes"], 2)
        for small, large in product(smaller, larger)
        for x, y in ((small, large), (large, small))
        for a, other, more in ((large, small, "bigger"), (small, large, "smaller"))
    ]


def _entries() -> list[Slots]:
    """All that one sentence or two say about a country or an animal."""
    return [
        slots | {slot: template.format(**slots) for slot, template in templates.items()}
        for table, templates in load_table("toy/facts.toml")["entries"].items()
        for slots in rows(table)
    ]


MADE = {
    "both_ways": _both_ways,
    "after": _after,
    "before": _before,
    "order": _order,
    "compared": _compared,
    "entries": _entries,
}
