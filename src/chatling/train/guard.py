"""What is not finite: which rows gave such losses or gradients, and when to roll back."""

from pathlib import Path

from chatling.errors import DataError, RunError
from chatling.run_dir import read_json, write_json

BAD_STEPS_IN_A_ROW = 3
ROLLBACKS = 2


class NonFiniteGuard:
    """Rows that gave a non-finite loss or gradient, and how often the run was rolled back; on disk,
    so that a kill forgets neither.
    """

    def __init__(self, path: Path):
        self.path = path
        saved = read_json(path) if path.exists() else {"excluded": [], "rollbacks": 0}
        excluded, rollbacks = (
            (saved.get(key) for key in ("excluded", "rollbacks"))
            if isinstance(saved, dict)
            else (None, None)
        )
        if (
            not isinstance(excluded, list)
            or not all(isinstance(rows, str) for rows in excluded)
            or type(rollbacks) is not int
        ):
            raise DataError(
                f"{path} does not say which rows are left out.",
                "Delete it; rows that are not finite are then found again.",
            )
        self.excluded: set[str] = set(excluded)
        self.rollbacks: int = rollbacks
        self.streak: list[str] = []

    def bad(self, rows: str) -> bool:
        """Note a bad step; True when it is time to roll back. Raises RunError when rolling back has
        not helped.
        """
        self.streak.append(rows)
        if len(self.streak) < BAD_STEPS_IN_A_ROW:
            return False
        if self.rollbacks == ROLLBACKS:
            raise RunError(
                f"The loss or its gradient was not finite {BAD_STEPS_IN_A_ROW} steps in a row,"
                f" after {ROLLBACKS} rollbacks (last rows {rows}).",
                "Lower the learning rates ([optim] matrix_lr, embedding_lr, head_lr) or look at the"
                " data, then run again.",
            )
        self.excluded.update(self.streak)
        self.rollbacks += 1
        self.streak.clear()
        return True

    def write(self) -> None:
        write_json(self.path, {"excluded": sorted(self.excluded), "rollbacks": self.rollbacks})
