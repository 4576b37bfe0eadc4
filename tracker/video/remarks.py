"""Say what is odd about a video though nothing of it is lost: what had to be assumed."""

from __future__ import annotations

from collections.abc import Callable

import av

from tracker.types import Image

_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics (ITU-T H.273, table 3)
_DARK = 32  # of 255: a picture of more than 8 bits that stays below uses hardly any of them
_EIGHT = 8  # bits
# Raw streams, in which FFmpeg makes times up.
_WITHOUT_TIMES = {"h264", "hevc", "vvc", "evc", "m4v", "mjpeg", "h263", "h261", "vc1", "obu"}


def tells_times(stream: av.VideoStream) -> bool:
    """Whether the container tells when its pictures are shown."""
    return stream.container.format.name not in _WITHOUT_TIMES


def remarks(
    stream: av.VideoStream, first: av.VideoFrame, convert: Callable[[av.VideoFrame], Image]
) -> tuple[str, ...]:
    """Return a sentence on each odd thing that the first picture shows."""
    said = []
    if not tells_times(stream) and not stream.codec_context.framerate:
        said.append(
            "the file tells no times: 25 frames/s are assumed; --set source.fps=RATE says otherwise"
        )
    if first.color_trc in _HDR:
        said.append(
            f"HDR ({_HDR[first.color_trc]}) is taken as it is, so pictures are pale; a copy in SDR "
            "may be found better"
        )
    if first.interlaced_frame:
        said.append("interlaced: each picture holds two moments; deinterlaced, edges are clean")
    depth = max((component.bits for component in first.format.components), default=_EIGHT)
    highest = int(convert(first).max()) if depth > _EIGHT else 255
    if highest < _DARK:
        said.append(
            f"pictures of {depth} bits that use only 0 to {highest} of 255 are nearly "
            "black: stretch them first"
        )
    return tuple(said)
