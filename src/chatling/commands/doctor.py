"""What is wrong with this machine."""

import json
from dataclasses import asdict

from chatling.commands.common import Command, command_parser


def run(command: Command, words: list[str]) -> None:
    parser = command_parser(command)
    parser.add_argument("--json", action="store_true", help="print facts and findings as JSON")
    given = parser.parse(words)

    from chatling.hardware.doctor import diagnose
    from chatling.pipeline.doctor import examine

    facts = examine()
    findings = diagnose(facts)
    if given.json:
        told = {
            "fingerprint": facts.fingerprint(),
            "facts": asdict(facts),
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(told, indent=1))
    else:
        from chatling.terminal.doctor import show_findings

        show_findings(findings, facts.fingerprint())
    if any(finding.level == "fault" for finding in findings):
        raise SystemExit(1)
