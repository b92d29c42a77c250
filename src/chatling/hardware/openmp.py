"""How torch's threads wait for one another, which is decided when it is imported."""

import os

SPINS = 1000


def set_wait_policy() -> None:
    """Let threads that wait sleep soon, unless the user's environment says how they wait.

    GNU's OpenMP has them spin for milliseconds: beside another busy process they then take the time
    that those need which they wait for. Has no effect once torch is imported.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
