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
    the others. Items of an iterator are given out while `has_room` of its number; `look_again`
    says that this may have changed.
    """

    def __init__(
        self,
        sources: Sequence[Iterable[T]],
        depth: int,
        *,
        drop_oldest: Sequence[bool] = (),
        on_drop: Sequence[Callable[[T], None] | None] = (),
        has_room: Callable[[int], bool] = lambda _: True,
    ) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        drops = drop_oldest or [False] * len(sources)
        heard = on_drop or [None] * len(sources)
        self._depth, self._has_room = depth, has_room
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
                    (number, self._next_of(feed))
                    for number, feed in enumerate(self._feeds)
                    if self._gives(number, feed)
                ]
                self._changed.notify_all()
            if ready:
                yield ready

    def look_again(self) -> None:
        """See whether there is room by now for what waits."""
        with self._changed:
            self._changed.notify_all()

    def stop(self, number: int) -> None:
        """Let one iterator end at its next item; what it has ready is dropped."""
        with self._changed:
            self._feeds[number].stopped = self._feeds[number].told = True
            self._feeds[number].buffer.clear()
            self._changed.notify_all()

    def stop_all(self) -> None:
        """Let all iterators end; nothing more is given out."""
        for number in range(len(self._feeds)):
            self.stop(number)

    def close(self) -> None:
        """Stop and join all threads; one that is blocked in a read must time out by itself."""
        self.stop_all()
        for worker in self._workers:
            worker.join()

    def _is_ready(self) -> bool:
        if all(feed.told for feed in self._feeds):
            return True
        return any(self._gives(number, feed) for number, feed in enumerate(self._feeds))

    def _gives(self, number: int, feed: _Feed[T]) -> bool:
        """Whether there is something of this iterator that may be given out."""
        if feed.told:
            return False
        return self._has_room(number) if feed.buffer else feed.ended is not None

    def _next_of(self, feed: _Feed[T]) -> T | Ended:
        if feed.buffer:
            return feed.buffer.popleft()
        assert feed.ended
        feed.told = True
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


class Scatter(Generic[T]):
    """Hand the items of one iterator out to several readers; a thread of its own makes them.

    A reader that is slow holds up none of the others: whoever feeds the iterator is to look at
    how many items are `waiting`. `on_taken` hears of each that a reader takes.
    """

    def __init__(self, readers: int, *, on_taken: Callable[[], None] = lambda: None) -> None:
        self._on_taken = on_taken
        self._changed = threading.Condition()
        self._queues: list[deque[T]] = [deque() for _ in range(readers)]
        self._stopped = [False] * readers
        self._ended: Ended | None = None
        self._worker: threading.Thread | None = None

    def deal(self, items: Iterable[tuple[int, T]]) -> None:
        """Begin with an iterator of items, each with the number of its reader."""
        self._worker = threading.Thread(
            target=self._deal, args=(items,), name="prefetch", daemon=True
        )
        self._worker.start()

    def waiting(self, number: int) -> int:
        """Return how many items wait for a reader."""
        return len(self._queues[number])

    def of(self, number: int) -> Iterator[T]:
        """Yield the items of one reader until all have come, or it is stopped.

        An error in the iterator is raised here, after the items that came before it.
        """
        while (item := self._take(number)) is not None:
            self._on_taken()
            yield item

    def stop(self, number: int) -> None:
        """Give one reader no more; what waits for it is dropped."""
        with self._changed:
            self._stopped[number] = True
            self._queues[number].clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop all readers and join the thread, whose iterator must come to its end."""
        for number in range(len(self._queues)):
            self.stop(number)
        if self._worker:
            self._worker.join()

    def _take(self, number: int) -> T | None:
        queue = self._queues[number]
        with self._changed:
            self._changed.wait_for(lambda: queue or self._stopped[number] or self._ended)
            if queue:
                return queue.popleft()
            if self._ended and self._ended.error and not self._stopped[number]:
                raise self._ended.error
            return None

    def _deal(self, items: Iterable[tuple[int, T]]) -> None:
        error: BaseException | None = None
        try:
            for number, item in items:
                with self._changed:
                    if not self._stopped[number]:
                        self._queues[number].append(item)
                        self._changed.notify_all()
        except BaseException as exc:
            error = exc
        with self._changed:
            self._ended = Ended(error)
            self._changed.notify_all()
