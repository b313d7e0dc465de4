"""Files and folders that are whole or absent."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# What a killed process leaves half-written begins like this.
UNFINISHED = ".kerasrnn-"


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write a file or folder beside its place and put it there when it is whole.

    Example:

    >>> import tempfile, pathlib
    >>> from kerasrnn._files import written_whole
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "result.txt"
    >>> with written_whole(path) as beside:
    ...     _ = beside.write_text("whole")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('whole', 1)
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=path.parent) as workshop:
            beside, old = Path(workshop) / path.name, Path(workshop) / "old"
            yield beside
            if not path.is_dir():
                beside.replace(path)
                return
            # A folder cannot replace a folder: move the old one out of the way first.
            path.rename(old)
            try:
                beside.rename(path)
            except BaseException:
                old.rename(path)
                raise
    except Exception as error:
        if why := _refused(error):
            raise OSError(f"Could not write {path} ({why}); what was there is kept.") from error
        raise


def _refused(error: Exception) -> str:
    """What the system said if it refused to write, else nothing."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # TensorFlow, which writes SavedModels, has errors of its own; cells and layers run without it.
    tensorflow = sys.modules.get("tensorflow")
    return error.message if tensorflow and isinstance(error, tensorflow.errors.OpError) else ""
