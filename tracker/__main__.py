"""The command `tracker`: hide what the list of processes would show, then start."""

from __future__ import annotations

import sys

from tracker.errors import redact


def main() -> None:
    """Run the command; a password in its arguments is hidden before the long imports."""
    shown = [redact(argument) for argument in sys.argv]
    if shown != sys.argv:
        import setproctitle

        setproctitle.setproctitle(" ".join(["tracker", *shown[1:]]))
    from tracker.cli import main as command

    command()


if __name__ == "__main__":
    main()
