"""Write single pictures as JPEG or PNG."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from tracker.errors import SinkError
from tracker.files import new_file
from tracker.types import Image
from tracker.video.picture import reason

_CODECS = {".jpg": ("mjpeg", "yuvj444p"), ".jpeg": ("mjpeg", "yuvj444p"), ".png": ("png", "rgb24")}


def write_picture(path: Path, image: Image) -> None:
    """Write an RGB picture (H, W, 3) uint8; the name tells JPEG (all but lossless) or PNG.

    Raises SinkError.
    """
    try:
        codec, pixels = _CODECS[path.suffix.lower()]
    except KeyError:
        raise SinkError(f"{path}: pictures are written as .jpg or .png") from None
    try:
        context = av.CodecContext.create(codec, "w")
        context.width, context.height = image.shape[1], image.shape[0]  # type: ignore[attr-defined]
        context.pix_fmt, context.time_base = pixels, Fraction(1, 25)  # type: ignore[attr-defined]
        if codec == "mjpeg":
            context.options = {"qmin": "2", "qmax": "2", "strict": "unofficial"}
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        if codec == "mjpeg":
            frame = frame.reformat(format=pixels, dst_color_range="JPEG")
        frame.pts = 0
        packets = [*context.encode(frame), *context.encode(None)]  # type: ignore[attr-defined]
    except (OSError, av.FFmpegError) as exc:
        raise SinkError(f"{path}: cannot be written: {reason(exc)}") from exc
    with new_file(path, "wb") as file:
        file.write(b"".join(bytes(packet) for packet in packets))
