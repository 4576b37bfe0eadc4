import itertools
import threading
import time

import pytest

from tracker.prefetch import prefetch


def worker_count():
    return sum(t.name == "prefetch" for t in threading.enumerate())


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
def test_keeps_order(depth):
    assert list(prefetch(range(50), depth)) == list(range(50))


def test_raises_producer_error_after_earlier_items():
    def items():
        yield 1
        yield 2
        raise OSError("disk gone")

    stage, seen = prefetch(items(), 1), []
    with pytest.raises(OSError, match="disk gone"):
        for item in stage:
            seen.append(item)
    assert seen == [1, 2]
    assert worker_count() == 0


def test_consumer_error_stops_producer_even_when_buffer_is_full():
    closed = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    stage = prefetch(endless(), 2)
    with pytest.raises(ZeroDivisionError):
        for item in stage:
            1 / (3 - item)
    stage.close()
    assert closed.is_set()
    assert worker_count() == 0


def test_file_source_waits_for_slow_consumer():
    produced = []

    def items():
        for i in range(20):
            produced.append(i)
            yield i

    stage = prefetch(items(), 3)
    next(stage)
    time.sleep(0.05)
    assert len(produced) <= 1 + 3 + 1  # consumed + buffered + in hand
    assert list(stage) == list(range(1, 20))


def test_live_source_drops_oldest_and_reports_it():
    dropped, go, done = [], threading.Event(), threading.Event()

    def camera():
        yield 0
        go.wait(1)
        yield from range(1, 10)
        done.set()

    stage = prefetch(camera(), 2, drop_oldest=True, on_drop=dropped.append)
    assert next(stage) == 0
    go.set()
    done.wait(1)
    assert list(stage) == [8, 9]
    assert dropped == list(range(1, 8))


def test_chained_stages_close_in_order():
    inner = prefetch(itertools.count(), 2)
    outer = prefetch((x * 2 for x in inner), 2)
    assert [next(outer) for _ in range(3)] == [0, 2, 4]
    outer.close()
    inner.close()
    assert worker_count() == 0
