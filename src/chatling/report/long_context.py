"""What became of a longer context: the gates, and the needles found by length and depth."""

from chatling.evals.long_context import core_gate
from chatling.report.collect import RunReport
from chatling.report.markdown import escape, table
from chatling.report.words import Words


def long_parts(run: RunReport, words: Words, *, alone: bool) -> list[str]:
    """Of each stage that made the context longer, or was evaluated for it."""
    parts = []
    for before, stage in zip((None, *run.trained), run.trained, strict=False):
        found = run.long(stage.name)
        if found is None:
            continue
        gates = [(gate["name"], gate["passed"], gate["found"]) for gate in found["gates"]]
        cores = run.core(before.name) if before else None, run.core(stage.name)
        if stage.definition.chats is False and cores[0] and cores[1]:
            gate = core_gate(cores[0], cores[1])
            gates.append((gate.name, gate.passed, gate.found))
        who = stage.name if alone else f"{run.name} ({stage.name})"
        parts.append(
            words(
                "**Longer context** of {stage}, from {short:,} to {long:,} tokens: {passed} of"
                " {count} gates passed.",
                stage=escape(who),
                short=found["short"],
                long=found["context"],
                passed=sum(passed for _, passed, _ in gates),
                count=len(gates),
            )
        )
        verdicts = {True: words("passed"), False: words("NOT passed")}
        rows = [(words(name), verdicts[bool(passed)], said) for name, passed, said in gates]
        parts.append(table((words("gate"), "", words("found")), rows))
        depths = sorted({each["depth"] for each in found["needles"]})
        shares = {(n["length"], n["depth"]): n["correct"] / n["total"] for n in found["needles"]}
        cells = [
            (f"{length:,}", *(words.percent(shares.get((length, depth)), 0) for depth in depths))
            for length in sorted({length for length, _ in shares})
        ]
        columns = (words("tokens"), *(words.percent(depth, 0) for depth in depths))
        parts.append(words("Needles found, by tokens of the text and how deep in it they stand:"))
        parts.append(table(columns, cells, numbers=True))
    return parts
