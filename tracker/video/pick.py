"""Give single frames of a stored video by their numbers, decoding little more than these."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.snapshot import SourceMark
from tracker.types import Frame
from tracker.video.address import on_disk
from tracker.video.file import VideoFile
from tracker.video.images import ImageSequence
from tracker.video.seek import find_time, places
from tracker.video.source import open_stored

_FAR = 100  # frames: a gap so wide is worth a search of the place behind it


def pick_frames(
    uri: str, numbers: Iterable[int], config: SourceConfig
) -> Generator[Frame, None, None]:
    """Yield the frames with these numbers, which count all frames of the video, ascending.

    `uri` is a file, or a folder or glob of images; start, end and stride of `config` do not matter.
    Frames that the video does not have are left out. Raises SourceError.
    """
    place = on_disk(uri)
    if place is None:
        raise SourceError(f"{uri}: is no file, and only files can be read again")
    groups = _near(sorted(set(numbers)))
    if not groups:
        return
    marks: dict[int, SourceMark] = {}
    source = open_stored(place, config, name=uri)
    if isinstance(source, VideoFile):
        with closing(source):
            marks = _marks_before(source, {group[0] for group in groups})
    for group in _joined(groups, marks):
        with closing(open_stored(place, config, name=uri)) as source:
            yield from _these(source, group, marks.get(group[0]))


def _these(
    source: VideoFile | ImageSequence, numbers: list[int], mark: SourceMark | None
) -> Iterator[Frame]:
    """Yield frames with ascending numbers, all of them behind a mark."""
    wanted = frozenset(numbers)
    return source.frames(
        lambda index, _time: index in wanted, lambda index, _time: index > numbers[-1], mark
    )


def _near(numbers: list[int]) -> list[list[int]]:
    """Return ascending numbers in groups between which there are wide gaps."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number - groups[-1][-1] < _FAR:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def _joined(groups: list[list[int]], marks: dict[int, SourceMark]) -> Iterator[list[int]]:
    """Yield the groups; those before which there is no mark go with the one before."""
    waiting: list[int] = []
    for group in groups:
        if waiting and group[0] in marks:
            yield waiting
            waiting = []
        waiting = waiting + group
    yield waiting


def _marks_before(file: VideoFile, numbers: set[int]) -> dict[int, SourceMark]:
    """Return a mark before each of these frames, where it is surely found by its time."""
    found = {
        place.index + 1: place.to_mark(skipped=True)
        for place in places(file)
        if place.index >= _FAR and place.index + 1 in numbers
    }
    first = next(iter(found.values()), None)
    return found if first is not None and find_time(file, first) is not None else {}
