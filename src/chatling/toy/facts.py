"""The facts of the pocket world as slots of templates: `facts.toml`, and what is made from it."""

from collections.abc import Mapping
from functools import cache
from itertools import combinations, pairwise, permutations, product

from chatling.toy.language import ENGLISH, Language

Slots = dict[str, str]


def capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """ "a cow", "an owl"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str, irregular: Mapping[str, str]) -> str:
    """ "windows", "cherries", "leaves"."""
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def inflected(slots: Slots, language: Language = ENGLISH) -> Slots:
    """The slots, and the forms that follow from them: possessives, nouns with their article.
    Where the language has no such forms, every noun is its own.
    """
    if not language.table("grammar")["inflects"]:
        return slots | {"an": slots["s"]} if "s" in slots else slots
    if name := slots.get("c"):
        possessive = f"{name}'" if name.endswith("s") else f"{name}'s"
        return slots | {"cs": possessive, "bare": name.removeprefix("the ")}
    article, _, noun = slots.get("x", "").partition(" ")
    if article in ("a", "an"):
        slots = slots | {"several": plural(noun, language.table("grammar")["plurals"])}
    elif several := slots.get("pl"):
        slots = slots | {"several": several}
    nouns = {"an": "s", "a_kind": "kind", "a_sound": "sound", "a_young": "young"}
    forms = {form: with_article(slots[of]) for form, of in nouns.items() if slots.get(of)}
    if home := slots.get("lives"):
        forms["place"] = home.split(" ", 1)[1]
    return slots | forms


@cache
def tables(language: Language = ENGLISH) -> dict[str, list[Slots]]:
    """All tables, each row as slots: those of `facts.toml`, and what is asked about their order,
    their pairs and whole rows.
    """
    source, more = language.table("facts"), language.table("grammar")["more"]
    found = {
        name: [
            inflected(dict(zip(table["columns"], row, strict=True)), language)
            for row in table["rows"]
        ]
        for name, table in source["tables"].items()
    }
    found["both_ways"] = [
        {"x": x, "a": a}
        for row in found["opposites"]
        for x, a in (row.values(), reversed(row.values()))
    ]
    found["order"] = [
        {"unit": sequence["unit"], "of": sequence["of"], "n": n, "a": a}
        for sequence in source["sequences"]
        for n, a in zip(source["ordinals"], sequence["names"], strict=False)
    ]
    found["after"] = [
        {"unit": sequence["unit"], "x": x, "a": a}
        for sequence in source["sequences"]
        if sequence["cyclic"]
        for x, a in pairwise((*sequence["names"], sequence["names"][0]))
    ]
    found["before"] = [row | {"x": row["a"], "a": row["x"]} for row in found["after"]]
    found["tomorrow"], found["yesterday"] = (
        [row for row in found[name] if row["unit"] == "day"] for name in ("after", "before")
    )
    found["farther"] = [
        {"unit": sequence["unit"], "x": x, "a": a}
        for sequence in source["sequences"]
        if not sequence["cyclic"]
        for x, a in pairwise(sequence["names"])
    ]
    found["nearer"] = [row | {"x": row["a"], "a": row["x"]} for row in found["farther"]]
    neighbors = {(row["x"], row["a"]) for name in ("after", "farther") for row in found[name]}
    found["between"] = [
        {"unit": sequence["unit"], "x": x, "y": y, "a": a}
        for sequence in source["sequences"]
        for x, a, y in permutations(sequence["names"], 3)
        if {(x, a), (a, y)} <= neighbors
    ]
    # any two things of different size, asked either way round
    found["compared"] = [
        {"x": x, "y": y, "a": a, "other": other, "more": word}
        for smaller, larger in combinations(source["sizes"], 2)
        for small, large in product(smaller, larger)
        for x, y in ((small, large), (large, small))
        for (a, other), word in zip(((large, small), (small, large)), more, strict=True)
    ]
    found["entries"] = [
        row | {slot: template.format(**row) for slot, template in templates.items()}
        for name, templates in source["entries"].items()
        for row in found[name]
    ]
    return found
