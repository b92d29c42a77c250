"""What readers of files give, and the count of rows that could not be used."""

from dataclasses import dataclass, field
from typing import Any

from chatling.errors import DataError

Row = str | dict[str, Any]  # a document, or named values


@dataclass
class RowErrors:
    """What reading met: rows, and those that could not be used, which are shown, skipped and, above
    a share, refused.
    """

    allow_bad: float = 0.01
    rows: int = 0
    bad: int = 0
    examples: list[str] = field(default_factory=list)
    # of the row that was read last, such as "line 3"; "" where the reader cannot tell
    place: str = ""

    def add(self, where: str, why: str) -> None:
        """Note a row that cannot be used. Raises DataError when it makes more than 10 and more than
        the share allowed.
        """
        self.bad += 1
        if len(self.examples) < 5:
            self.examples.append(f"{where}: {why}")
        if self.bad > 10 + self.allow_bad * self.rows:
            raise DataError(
                f"{self.bad:,} of the first {self.rows:,} rows cannot be used; the first is"
                f" {self.examples[0].rstrip('.')}.",
                "Mend the file, or skip such rows with a higher --allow-bad, now"
                f" {self.allow_bad:g}.",
            )
