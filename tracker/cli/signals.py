"""What SIGINT and SIGTERM do to a run or a training: finish the files, the second time leave."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

_SECOND_SIGNAL_S = 1.0


class Signals:
    """SIGINT and SIGTERM: while frames flow finish the files, before break off, twice leave now."""

    def __init__(self) -> None:
        self._first: float | None = None  # s, monotonic
        self.flowing = False  # a signal is only noted: what is under way ends in good order
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stopped(self) -> bool:
        """Whether a signal has come."""
        return self._first is not None

    def _handle(self, number: int, _: object) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            if not self.flowing:
                raise KeyboardInterrupt
        elif now - self._first > _SECOND_SIGNAL_S:  # sooner it is the same wish, delivered twice
            sys.stderr.write("tracker: stopped at once; unfinished files end in .part\n")
            os._exit(128 + number)
