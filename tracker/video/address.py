"""Tell where a video lies, and write the address of a stream as FFmpeg takes it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote
from urllib.request import url2pathname

from tracker.errors import SourceError

SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtp", "tcp", "srt", "rtmp")
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^\[\]:]+)(:\d*)?", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_RAW_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")
_PLAIN = "%:!$&'()*+,;="  # what may stand in user names and passwords as it is (RFC 3986, 3.2.1)


def is_camera(uri: str) -> bool:
    """Whether this is a camera's number or device; a file or folder called so goes first."""
    is_number = uri.isdecimal() and not Path(uri).exists()
    return is_number or uri.startswith("/dev/video")


def is_live(uri: str) -> bool:
    """Whether this surely never ends by itself; what HTTP gives may be a file."""
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    return is_camera(uri) or (scheme in SCHEMES and not scheme.startswith("http"))


def on_disk(uri: str) -> str | None:
    """Return the path or pattern of files; None for cameras, streams and standard input.

    Raises SourceError for an address of a kind that is not read.
    """
    if uri == "-" or is_camera(uri):
        return None
    if (url := _URL.fullmatch(uri)) is None:
        return uri
    scheme = url[1].lower()
    if scheme in SCHEMES:
        return None
    if scheme != "file":
        raise SourceError(f"{uri}: URLs may start with {', '.join(SCHEMES)}, not {scheme}")
    host, slash, path = url[2].partition("/")
    if host not in ("", "localhost"):
        raise SourceError(f"{uri}: lies on another machine; write file:///path for one of this")
    # A name that holds a % as it is, not as RFC 8089 wants it, is somebody's too.
    return slash + path if Path(slash + path).exists() else url2pathname(slash + path)


def to_address(uri: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the address of a stream as FFmpeg takes it.

    `${NAME}` in the user name and password is taken from the environment; what would end them too
    early is written as %XX. Raises SourceError for a variable that is not there.
    """
    scheme, user, rest = _split(uri)
    scheme = scheme.lower()  # which is all that FFmpeg knows
    if not scheme:
        return uri
    if user is None:
        return f"{scheme}://{rest}"
    known = os.environ if environment is None else environment

    parts = _VARIABLE.split(user)  # plain text and names of variables, by turns
    for k, part in enumerate(parts):
        if k % 2 == 0:
            parts[k] = quote(_RAW_PERCENT.sub("%25", part), safe=_PLAIN)
        elif part in known:
            parts[k] = quote(known[part], safe="")
        else:
            raise SourceError(f"{uri}: the environment has no variable {part}")
    return f"{scheme}://{''.join(parts)}@{rest}"


def advice(uri: str) -> str:
    """Return what may help where an address cannot be opened, or nothing."""
    scheme, _, rest = _split(uri)
    if not scheme or "@" not in rest:
        return ""
    return (
        "; in a password write / ? # and the at sign as %2F %3F %23 %40, or put it into the "
        "environment and write '${NAME}'"
    )


def _split(uri: str) -> tuple[str, str | None, str]:
    """Return the scheme, the user name and password, if there are any, and the rest of an address.

    They end at the last `@` before the path (RFC 3986, 3.2); where what follows cannot be a host,
    as when a password holds a `/`, at the last `@` of all.
    """
    url = _URL.fullmatch(uri)
    scheme, rest = url.groups() if url else ("", uri)
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    user, at, host = rest[:end].rpartition("@")
    if not _HOST.fullmatch(host) and "@" in rest[end:]:
        user, at, rest = rest.rpartition("@")
    else:
        rest = host + rest[end:]
    return scheme, user if at else None, rest
