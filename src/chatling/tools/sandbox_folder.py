"""The folder of a sandboxed program, measured while it runs and deleted afterward, whatever it put
there: folders nested deeper than any path reaches, odd names, unreadable ones.
"""

import contextlib
import math
import os
from collections.abc import Generator

DEEPEST = 32  # folders in each other, each of which is open while it is measured
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def within(folder: str, most_bytes: int, most_entries: int) -> bool:
    """Whether what is below a folder keeps the limits; looks no further than they reach."""
    total: float = 0
    with contextlib.closing(_sizes(folder, None, DEEPEST)) as sizes:
        for count, size in enumerate(sizes, 1):
            total += size
            if count > most_entries or total > most_bytes:
                return False
    return True


def _sizes(name: str, parent: int | None, deepest: int) -> Generator[float]:
    """Bytes of each entry below a folder that may change meanwhile; infinite for what is nested too
    deep or cannot be read. Through descriptors, since a path may be too long.
    """
    with contextlib.ExitStack() as stack:
        try:
            here = os.open(name, _FOLDER, dir_fd=parent)
            stack.callback(os.close, here)
            for entry in stack.enter_context(os.scandir(here)):
                with contextlib.suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.name, here, deepest - 1) if deepest else (math.inf,)
        except (FileNotFoundError, NotADirectoryError):
            return  # gone, or another thing since it was seen
        except OSError:
            yield math.inf


def remove(folder: str) -> None:
    """Delete a folder in which nothing runs any more; what cannot be deleted stays. One descriptor
    walks down and up, so that no depth is too deep.
    """
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        here = os.open(folder, _FOLDER)
        stack.callback(lambda: os.close(here))
        names, below = [os.path.basename(folder)], [_empty(here)]
        while names:
            down = below[-1].pop() if below[-1] else None
            if down is not None:
                os.chmod(down, 0o700, dir_fd=here)
            parent, here = here, os.open(down or "..", _FOLDER, dir_fd=here)
            os.close(parent)
            if down is not None:
                names.append(down)
                below.append(_empty(here))
            else:
                below.pop()
                os.rmdir(names.pop(), dir_fd=here)


def _empty(folder: int) -> list[str]:
    """Delete what can be deleted at once; the names of the rest, which are folders."""
    rest = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            delete = os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink
            try:
                delete(entry.name, dir_fd=folder)
            except OSError:
                rest.append(entry.name)
    return rest
