"""What became of a longer context: the gates, and the needles found by length and depth."""

from chatling.evals.long_context import core_gate
from chatling.report.collect import RunReport
from chatling.report.markdown import escape, percent, table


def long_parts(run: RunReport, *, alone: bool) -> list[str]:
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
            f"**Longer context** of {escape(who)}, from {found['short']:,} to"
            f" {found['context']:,} tokens: {sum(passed for _, passed, _ in gates)} of"
            f" {len(gates)} gates passed."
        )
        rows = [(name, "passed" if passed else "NOT passed", said) for name, passed, said in gates]
        parts.append(table(("gate", "", "found"), rows))
        depths = sorted({each["depth"] for each in found["needles"]})
        shares = {(n["length"], n["depth"]): n["correct"] / n["total"] for n in found["needles"]}
        cells = [
            (f"{length:,}", *(percent(shares.get((length, depth)), 0) for depth in depths))
            for length in sorted({length for length, _ in shares})
        ]
        parts.append("Needles found, by tokens of the text and how deep in it they stand:")
        parts.append(
            table(("tokens", *(percent(depth, 0) for depth in depths)), cells, numbers=True)
        )
    return parts
