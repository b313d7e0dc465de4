"""Where the command `kerasrnn` starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def main() -> None:
    """Load TensorFlow without its start-up messages, and run the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _without_stderr():
        import tensorflow

        tensorflow.config.list_logical_devices()  # or it looks for a GPU, and complains, later

    from kerasrnn.cli import main as run

    run()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what native code writes to standard error: TensorFlow's first lines heed no setting."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    main()
