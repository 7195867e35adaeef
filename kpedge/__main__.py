"""`python -m kpedge` and the `kpedge` command."""

import os
import signal
import sys


def open_standard_streams() -> None:
    """Standard streams that were closed (`2>&-`) go nowhere: otherwise the first file opened takes their number, and
    what libraries write to standard error goes into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def main() -> int:
    """Run the command line. Ctrl-C while its modules load ends the process without a traceback."""
    open_standard_streams()
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kpedge.cli import main as command

    signal.signal(signal.SIGINT, handler)
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
