"""Open any container by one rule, and find its stream of pictures by another.

Files, addresses and pipes, the pictures and the sound beside them: all are opened here.
"""

from __future__ import annotations

import errno
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import av
import av.error
import av.stream

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.video.address import advice, is_camera, to_address
from tracker.video.cut import has_no_index
from tracker.video.picture import reason

# Containers of real footage. Scripts (ffconcat, sdp) can name other files and hosts, so they are
# not among them, and no protocol but `file` may be opened from within a file.
_FILES = (
    "3g2,3gp,amv,apng,asf,avi,avs2,avs3,bmp_pipe,cavsvideo,dds_pipe,dhav,dirac,dnxhd,dpx_pipe,dv,"
    "dxa,evc,exr_pipe,film_cpk,flic,flv,gif,gif_pipe,gxf,h261,h263,h264,hdr_pipe,hevc,image2,ipu,"
    "ivf,ivr,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,kux,live_flv,lmlm4,m4v,"
    "matroska,mjpeg,mjpeg_2000,mov,mp4,m4a,mj2,mpeg,mpegts,mpegvideo,mtv,mv,mxf,nsv,nut,nuv,obu,"
    "ogg,pam_pipe,pbm_pipe,pcx_pipe,pfm_pipe,pgm_pipe,pgmyuv_pipe,png_pipe,ppm_pipe,psd_pipe,pva,"
    "pvf,qoi_pipe,r3d,rm,roq,sgi_pipe,smjpeg,smk,sunrast_pipe,swf,thp,tiff_pipe,ty,vc1,vc1test,"
    "vivo,vmd,vvc,wc3movie,webm,webp_pipe,wtv,xbm_pipe,xmv,xpm_pipe,xwd_pipe,yop,yuv4mpegpipe"
)
# What an address may give besides: playlists, cameras, and what the segments of a playlist hold.
_STREAMS = "hls,dash,mpjpeg,rtsp,rtp,sdp,mpegtsraw,aac,ac3,eac3,mp3,webvtt"
_PLAYLISTS = {"hls", "dash"}  # of which each stream may be the same pictures at another size
# Whose clock may leap: in pieces that were put together, or at a camera that starts anew.
_SEGMENTED = {*_PLAYLISTS, "mpegts", "mpeg", "rtsp", "rtp"}
_FINITE = {"image2", "gif", "apng", "avi", "yuv4mpegpipe", "mov"}  # by their nature
_ENDLESS = {"hls", "dash", "mpjpeg", "rtsp", "rtp", "sdp"}  # where no length is declared
_NO_VIDEO = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
_FOUND_NOTHING = 1 << 15  # bytes: fewer than FFmpeg reads before it asks to be called again
_REMEDY_PIPE = (
    "; where the index of an mp4 or mov lies at its end, as cameras write it, a pipe cannot be "
    "read: name the file itself, or rewrite it with `ffmpeg -i IN -c copy -movflags +faststart OUT`"
)
_NO_INDEX = (
    "its index, moov, is missing: the recording was not finished or the copy was cut off; tools "
    "such as untrunc mend it with a whole file of the same camera"
)

_ADVICE = {
    "ExitError": "no answer in time",
    "HTTPUnauthorizedError": "user name or password is wrong (401)",
    "HTTPForbiddenError": "access is forbidden (403)",
    "HTTPNotFoundError": "the address is not known there (404)",
    "ConnectionRefusedError": "nothing answers at this address (connection refused)",
}

Container = av.container.InputContainer
Place = Path | str | IO[bytes]  # of a file, its address, or bytes that come once


def open_container(
    place: Place,
    *,
    max_pixels: int,
    timeout: tuple[float, float] | None = None,
    options: dict[str, str] | None = None,
    **arguments: Any,
) -> Container:
    """Open what lies at a path, at an address, or comes through a pipe.

    Tags need not be UTF-8. `timeout` is that of opening and of reading, s. Raises what PyAV raises:
    its text may hold a password.
    """
    given = {"max_pixels": str(max_pixels), "format_whitelist": _FILES, **(options or {})}
    target: Any = place
    if isinstance(place, Path):
        target = f"file:{place.absolute()}"  # so that 'concat:a|b' stays a file's name
        given["protocol_whitelist"] = "file"
    elif isinstance(place, str):
        given["format_whitelist"] = f"{_FILES},{_STREAMS}"
        given |= {"extension_picky": "0", "allowed_extensions": "ALL"}  # of the pieces of a list
    if "format" in arguments:  # a device
        del given["format_whitelist"]
    opened = av.open(target, options=given, timeout=timeout, metadata_errors="replace", **arguments)
    return cast(Container, opened)


def open_file(place: Path | IO[bytes], *, name: str, max_pixels: int) -> Container:
    """Open a file or a pipe; raise SourceError with the reason."""
    if isinstance(place, Path):
        _check_file(place, name)
    try:
        container = open_container(place, max_pixels=max_pixels)
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        why = _why_unreadable(exc, place)
        raise SourceError(f"{name}: is not a video that can be read ({why})") from None
    if not container.streams.video and isinstance(place, Path) and has_no_index(place):
        container.close()
        raise SourceError(f"{name}: is not a video that can be read ({_NO_INDEX})")
    return container


def _why_unreadable(exc: Exception, place: Path | IO[bytes]) -> str:
    """Say why a file or a pipe could not be opened, and what helps."""
    why = reason(exc)
    if getattr(exc, "errno", None) == errno.EINVAL:
        why = "its format is none that is read here"
    if not isinstance(place, Path):
        return why + _REMEDY_PIPE
    return _NO_INDEX if has_no_index(place) else why


def open_address(uri: str, config: SourceConfig) -> Container:
    """Open a camera or an address; raise SourceError with the reason."""
    target = to_address(uri)
    arguments: dict[str, Any] = {}
    options: dict[str, str] = {}
    if is_camera(uri):
        target, arguments = _device(uri)
    elif uri.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"  # lost UDP packets are wrong pictures without a flag
    try:
        return open_container(
            target,
            max_pixels=config.max_pixels,
            timeout=(config.open_timeout_s, config.read_timeout_s),
            options=options,
            **arguments,
        )
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        why = fault(exc)
    # Not where it is caught: as a context the error would carry the address along.
    raise SourceError(f"{uri}: cannot be opened ({why}{advice(uri)})")


def demux(container: Container, *streams: av.stream.Stream) -> Iterator[av.Packet[Any]]:
    """Yield the packets of streams up to the end; raise what PyAV raises.

    Behind 64 kB in which it finds nothing, as in a recording with a hole of zeros, FFmpeg asks to
    be called again: that is not the end.
    """
    calls_left = max(0, container.size) // _FOUND_NOTHING + 1
    while True:
        try:
            yield from container.demux(*streams)
        except av.error.BlockingIOError:
            calls_left -= 1
            if calls_left < 0:
                raise
        else:
            return


def fault(exc: BaseException) -> str:
    """Say what is wrong with a connection, without its address."""
    return _ADVICE.get(type(exc).__name__) or reason(exc)


def no_picture(place: Place, name: str) -> SourceError:
    """Return the error of a container of whose pictures none can be decoded."""
    remedy = "" if isinstance(place, Path | str) else _REMEDY_PIPE
    return SourceError(f"{name}: holds no picture that can be decoded{remedy}")


def is_any(container: av.container.Container, formats: set[str]) -> bool:
    """Whether a container is of one of these formats, by FFmpeg's names."""
    return not formats.isdisjoint(container.format.name.split(","))


def has_end(container: Container, *, over_http: bool) -> bool:
    """Whether what an address gives ends by itself: it declares a duration or its size in bytes."""
    if container.duration or is_any(container, _FINITE) or container.format.name.endswith("_pipe"):
        return True
    return over_http and not is_any(container, _ENDLESS) and container.size > 0


def has_leaps(container: Container) -> bool:
    """Whether the clock may leap: in a broadcast or in segments, not in a file with one clock."""
    return is_any(container, _SEGMENTED)


def is_playlist(container: av.container.Container) -> bool:
    """Whether the streams come in segments of their own, any of which may be lost."""
    return is_any(container, _PLAYLISTS)


def choose_streams(
    container: Container, *, name: str, max_pixels: int, wanted: int | None
) -> list[av.VideoStream]:
    """Return the streams to try for pictures, the best first; raise SourceError.

    Covers and thumbnails are none. Of the variants of a playlist the largest is the best, of other
    streams the first; a sequence goes before the still picture that stands for it. `wanted` is the
    number of the only one, from 0.
    """
    streams = [s for s in container.streams.video if not s.disposition & _NO_VIDEO]
    if not streams:
        only_sound = " (only sound)" if container.streams.audio else ""
        raise SourceError(f"{name}: holds no video stream{only_sound}")
    if wanted is not None:
        if wanted >= len(streams):
            raise SourceError(
                f"{name}: has no video stream {wanted} (source.stream), only 0 to "
                f"{len(streams) - 1}"
            )
        streams = [streams[wanted]]
    elif is_playlist(container):
        streams.sort(key=_size, reverse=True)
    else:
        streams.sort(key=lambda s: bool(s.disposition & av.stream.Disposition.still_image))
    readable = [stream for stream in streams if _size(stream)[0]]
    if not readable:
        raise SourceError(
            f"{name}: the codec or the size of its pictures is unknown, or they are larger than "
            f"source.max_pixels ({max_pixels}) allows"
        )
    for stream in readable:
        codec = stream.codec_context
        if codec.width * codec.height > max_pixels:
            raise SourceError(
                f"{name}: pictures of {codec.width} x {codec.height} px are larger than "
                f"source.max_pixels ({max_pixels}) allows"
            )
    return readable


def _size(stream: av.VideoStream) -> tuple[int, int]:
    """Return the number of pixels and the bit rate; 0 where no decoder is known."""
    codec: av.VideoCodecContext | None = stream.codec_context
    return (codec.width * codec.height, codec.bit_rate or 0) if codec else (0, 0)


def _check_file(path: Path, name: str) -> None:
    try:
        status = path.stat()
    except OSError as exc:
        raise SourceError(f"{name}: {reason(exc)}") from None
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(
            f"{name}: is not a regular file; a pipe is read by `cat {name} | tracker run -`"
        )
    if not status.st_size:
        raise SourceError(f"{name}: the file is empty (0 bytes)")


def _device(uri: str) -> tuple[str, dict[str, Any]]:
    """Return what PyAV opens for a camera's number or device on this system."""
    if sys.platform == "darwin":
        return uri, {"format": "avfoundation"}
    if sys.platform == "win32":
        raise SourceError(f"camera {uri}: on Windows give the camera as an rtsp or http URL")
    return (f"/dev/video{uri}" if uri.isdecimal() else uri), {"format": "v4l2"}
