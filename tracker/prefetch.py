"""Run iterators in threads of their own, so that stages overlap: the only threads of a run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended:
    """What stands for an item where there are no more."""

    error: BaseException | None  # why; None at a proper end


@dataclass(slots=True)
class _Feed(Generic[T]):
    """One iterator, and what it has ready."""

    items: Iterable[T]
    drop_oldest: bool
    on_drop: Callable[[T], None] | None
    buffer: deque[T] = field(default_factory=deque)
    ended: Ended | None = None  # its thread has come to an end
    told: bool = False  # and that was passed on
    stopped: bool = False  # nobody wants more


class Gather(Generic[T]):
    """Keep up to `depth` items of several iterators ready, each made by a thread of its own.

    A full buffer makes the producer wait (files), or discards its oldest item where `drop_oldest`
    is set (live sources) and tells `on_drop`. An iterator that is slow, or fails, holds up none of
    the others.
    """

    def __init__(
        self,
        sources: Sequence[Iterable[T]],
        depth: int,
        *,
        drop_oldest: Sequence[bool] = (),
        on_drop: Sequence[Callable[[T], None] | None] = (),
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        drops = drop_oldest or [False] * len(sources)
        heard = on_drop or [None] * len(sources)
        self._depth = depth
        self._changed = threading.Condition()
        self._feeds = [
            _Feed(items, drop, on) for items, drop, on in zip(sources, drops, heard, strict=True)
        ]
        self._workers = [
            threading.Thread(target=self._produce, args=(feed,), name="prefetch", daemon=True)
            for feed in self._feeds
        ]
        for worker in self._workers:
            worker.start()

    def rounds(self) -> Iterator[list[tuple[int, T | Ended]]]:
        """Yield what is ready, at most one item of each iterator, with the iterator's number.

        An iterator's last item is Ended, after all the others it gave.
        """
        while not all(feed.told for feed in self._feeds):
            with self._changed:
                self._changed.wait_for(self._is_ready)
                ready = [
                    (number, item)
                    for number, feed in enumerate(self._feeds)
                    if (item := self._next_of(feed)) is not None
                ]
                self._changed.notify_all()
            yield ready

    def stop(self, number: int) -> None:
        """Let one iterator end at its next item; what it has ready is dropped."""
        with self._changed:
            self._feeds[number].stopped = self._feeds[number].told = True
            self._feeds[number].buffer.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop and join all threads; one that is blocked in a read must time out by itself."""
        for number in range(len(self._feeds)):
            self.stop(number)
        for worker in self._workers:
            worker.join()

    def _is_ready(self) -> bool:
        waited_for = [feed for feed in self._feeds if not feed.told]
        return not waited_for or any(feed.buffer or feed.ended for feed in waited_for)

    def _next_of(self, feed: _Feed[T]) -> T | Ended | None:
        if feed.told:
            return None
        if feed.buffer:
            return feed.buffer.popleft()
        feed.told = feed.ended is not None
        return feed.ended

    def _produce(self, feed: _Feed[T]) -> None:
        error: BaseException | None = None
        source = iter(feed.items)
        try:
            for item in source:
                if not self._put(feed, item):
                    break
        except BaseException as exc:
            error = exc
        try:
            if isinstance(source, Generator):
                source.close()
        except BaseException as exc:
            error = error or exc
        with self._changed:
            feed.ended = Ended(error)
            self._changed.notify_all()

    def _put(self, feed: _Feed[T], item: T) -> bool:
        """Add an item; return whether more are wanted."""
        with self._changed:
            if feed.drop_oldest and len(feed.buffer) == self._depth:
                dropped = feed.buffer.popleft()
                if feed.on_drop:
                    feed.on_drop(dropped)
            self._changed.wait_for(lambda: len(feed.buffer) < self._depth or feed.stopped)
            if feed.stopped:
                return False
            feed.buffer.append(item)
            self._changed.notify_all()
            return True


def prefetch(
    items: Iterable[T],
    depth: int,
    *,
    drop_oldest: bool = False,
    on_drop: Callable[[T], None] | None = None,
) -> Generator[T, None, None]:
    """Yield `items` in order while a thread keeps up to `depth` of them ready, as in Gather.

    An error in the producer is raised here, after the items that came before it. Closing this
    generator stops and joins the producer.
    """
    with closing(Gather([items], depth, drop_oldest=[drop_oldest], on_drop=[on_drop])) as gather:
        for [(_, item)] in gather.rounds():
            if not isinstance(item, Ended):
                yield item
            elif item.error:
                raise item.error
