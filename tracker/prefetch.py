"""Run an iterator in its own thread, so that stages overlap: the only threads of the pipeline."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def prefetch(
    items: Iterable[T],
    depth: int,
    *,
    drop_oldest: bool = False,
    on_drop: Callable[[T], None] | None = None,
) -> Generator[T, None, None]:
    """Yield `items` in order while a thread keeps up to `depth` of them ready.

    A full buffer makes the producer wait (files), or discards the oldest item when `drop_oldest`
    is set (live sources). An error in the producer is raised here, after the items that came
    before it. Closing this generator stops and joins the producer; a producer blocked in a read
    must time out by itself.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")

    buffer: deque[T] = deque()
    changed = threading.Condition()
    finished = stopped = False
    error: BaseException | None = None

    def produce() -> None:
        nonlocal finished, error
        source = iter(items)
        try:
            for item in source:
                with changed:
                    if drop_oldest and len(buffer) == depth:
                        dropped = buffer.popleft()
                        if on_drop:
                            on_drop(dropped)
                    changed.wait_for(lambda: len(buffer) < depth or stopped)
                    if stopped:
                        return
                    buffer.append(item)
                    changed.notify_all()
        except BaseException as exc:
            error = exc
        finally:
            try:
                if close := getattr(source, "close", None):
                    close()
            except BaseException as exc:
                error = error or exc
            with changed:
                finished = True
                changed.notify_all()

    worker = threading.Thread(target=produce, name="prefetch", daemon=True)
    worker.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: buffer or finished)
                if not buffer:
                    break
                item = buffer.popleft()
                changed.notify_all()
            yield item
    finally:
        with changed:
            stopped = True
            changed.notify_all()
        worker.join()
    if error:
        raise error
