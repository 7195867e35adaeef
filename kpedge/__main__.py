"""`python -m kpedge` and the `kpedge` command."""

import signal
import sys


def main() -> int:
    """Run the command line. Ctrl-C while its modules load ends the process without a traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from kpedge.cli import main as command

    signal.signal(signal.SIGINT, handler)
    return command.main()


if __name__ == "__main__":
    sys.exit(main())
