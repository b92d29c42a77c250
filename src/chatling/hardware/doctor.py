"""What is wrong with a machine: every check asked."""

from collections.abc import Sequence

from chatling.hardware.check import Check, Finding
from chatling.hardware.facts import Facts
from chatling.hardware.gpu_checks import GPU_CHECKS
from chatling.hardware.network_checks import NETWORK_CHECKS
from chatling.hardware.system_checks import SYSTEM_CHECKS

WITHOUT_GPU: tuple[Check, ...] = SYSTEM_CHECKS + NETWORK_CHECKS
CHECKS: tuple[Check, ...] = WITHOUT_GPU + GPU_CHECKS


def diagnose(facts: Facts, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """The findings of the checks that this machine has something for, those that are fine
    included.
    """
    found = (check(facts) for check in checks)
    return [finding for finding in found if finding is not None]
