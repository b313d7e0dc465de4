"""`python -m kerasrnn` is the command `kerasrnn`."""

from kerasrnn.cli import main

if __name__ == "__main__":
    main()
