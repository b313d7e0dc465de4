"""Where the command `kerasrnn` starts.

Outside the package, because whatever imports the package has loaded TensorFlow by then, and
TensorFlow writes to the terminal while it is loaded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator


def main() -> None:
    """Run the command line."""
    load_tensorflow()

    from kerasrnn.cli import main as run

    run()


def load_tensorflow() -> None:
    """Load TensorFlow without its start-up messages, and compute nothing: workers have to meet first."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # The applications run on no other.
    with _quiet_unless_it_fails():
        import tensorflow

        tensorflow.config.list_physical_devices()  # or it looks for a GPU, and complains, later


@contextlib.contextmanager
def _quiet_unless_it_fails() -> Iterator[None]:
    """Keep back what native code writes to standard error: TensorFlow's first lines heed no setting."""
    terminal = os.dup(2)
    with tempfile.TemporaryFile("w+") as kept_back:
        os.dup2(kept_back.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(terminal, 2)
            kept_back.seek(0)
            shutil.copyfileobj(kept_back, sys.stderr)
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


if __name__ == "__main__":
    main()
