"""Compare what a container declares of its pictures with what was found."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tracker.video.container import Container, is_any, is_playlist
from tracker.video.cut import ends_in_the_middle

_FROM_THE_FIRST = {"mpegts", "mpeg", "hls"}  # containers whose length begins at the first picture
_MOST_SHORT = 0.1  # of the declared length: claims are not exact
_MOST_SHORT_S = 0.9
_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class Claims:
    """What a container declares of one of its streams."""

    def __init__(self, container: Container, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        self._sound_end = 0.0  # s, on the container's clock
        self.frames = stream.frames or None
        if self.frames and is_any(container, {"mov"}):  # an edit list may leave some unread
            self.frames = min(self.frames, len(stream.index_entries) or self.frames)

    def expected_frames(self, rate: Fraction | None) -> int | None:
        """Return how many frames there should be, by their number or else by the length."""
        if self.frames or not rate:
            return self.frames
        if self._stream.duration and self._stream.time_base:
            return max(1, round(self._stream.duration * self._stream.time_base * rate))
        if self._container.duration:
            return max(1, round(Fraction(self._container.duration, av.time_base) * rate))
        return None

    def are_slots(self, declared: int, found: int) -> bool:
        """Whether the declared frames are slots of time, most of which hold no new picture.

        So AVI writes pictures at uneven times; where few slots are empty, pictures were dropped.
        """
        return is_any(self._container, {"avi"}) and declared >= 2 * found

    def take_sound(self, packet: av.Packet[Any]) -> None:
        """Take in a packet of sound: it may last longer than the pictures."""
        if packet.pts is not None and packet.time_base:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._sound_end = max(self._sound_end, end)

    def shortfall(self, last: float, step: float) -> tuple[float, float] | None:
        """Return where all ends and where it should, s, if that is well before.

        `last` is the time of the last picture from the first, `step` what it lasts, s.
        """
        if not self._container.duration:
            return None
        start = (self._container.start_time or 0) / av.time_base
        claimed = self._container.duration / av.time_base
        if start > 0 and not is_any(self._container, _FROM_THE_FIRST):
            claimed -= start
        end = max(last + step, self._sound_end - start)
        own = self._tagged_length()
        if own is not None and last + step < own - start - 2 * step:
            return last + step, own - start
        most = max(2 * step, min(_MOST_SHORT * claimed, _MOST_SHORT_S))
        return (end, claimed) if end < claimed - most else None

    def _tagged_length(self) -> float | None:
        """Return when the stream itself ends, s, as most writers of Matroska tell in a tag."""
        match = _TAG.fullmatch(self._stream.metadata.get("DURATION", ""))
        if not match or not is_any(self._container, {"matroska", "webm"}):
            return None
        hours, minutes, seconds = (float(part) for part in match.groups())
        return 3600 * hours + 60 * minutes + seconds

    def missing(self, end: float, claimed: float, step: float) -> int:
        """Return how many pictures lie between an end and that of a playlist."""
        return round((claimed - end) / step) if is_playlist(self._container) else 0

    def is_cut(self, path: Path) -> bool:
        """Whether the file itself shows that it was cut off."""
        return ends_in_the_middle(path, set(self._container.format.name.split(",")))
