"""Every error a caller may want to catch, and the one place where credentials are removed.

TrackerError
├── ConfigError       a setting or a configuration file is wrong
├── SourceError       a video cannot be opened or read
├── ModelError        a model or its weights cannot be used, or its output is not finite
├── SinkError         an output cannot be written
├── FormatError       a log or annotation file is malformed
├── MissingExtraError an optional dependency is not installed
└── UnexpectedError   anything else that ended one run: a bug
"""

from __future__ import annotations

import re
import traceback

_USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]+:/+)[^\r\n]*@", re.IGNORECASE)
_NAMES = "pas|pw|psk|token|jwt|secret|auth|key|sig|cred|user?|usr|login"
_SECRET_PARAMETER = re.compile(
    rf"([?&;#](?:[\w.-]*(?:{_NAMES})[\w.-]*|[up])=)[^&\s]*", re.IGNORECASE
)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]+://\S*", re.IGNORECASE)
_SECRET_IN_PATH = re.compile(rf"([/_,][a-z0-9.-]*(?:{_NAMES})[a-z0-9.-]*=).*", re.IGNORECASE)


class TrackerError(Exception):
    """Base of all errors raised on purpose; the message is one sentence, safe to show."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ConfigError(TrackerError):
    """A setting is wrong; the message names the file, section and key."""


class SourceError(TrackerError):
    """A video cannot be opened or read."""


class ModelError(TrackerError):
    """A model or its weights cannot be used, or its output is not finite."""


class SinkError(TrackerError):
    """An output cannot be written."""


class FormatError(TrackerError):
    """A log or annotation file is malformed; the message names file and line."""


class MissingExtraError(TrackerError, ImportError):
    """An optional dependency is not installed; the message holds the exact pip command."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'mask-tracker[{extra}]'")


class UnexpectedError(TrackerError):
    """Something that nobody foresaw ended a run; it is the cause of this error."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(
            f"{name}: ended by an error that nobody foresaw ({explain(error)}); please report it "
            "with its traceback"
        )
        self.__cause__ = error


def redact(text: str) -> str:
    """Remove user names, passwords and tokens of every URL in `text`.

    A password may itself hold `@`, `/`, `#`, `?`, spaces or quotes, so everything up to the last
    `@` of the line goes: where a path or the text behind has an `@` too, that hides too much,
    never too little.
    """
    text = _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))
    # Some cameras take them in the path: rtsp://camera/user=admin_password=secret_channel=1
    return _URL.sub(lambda url: _SECRET_IN_PATH.sub(r"\1***", url[0]), text)


def explain(error: BaseException) -> str:
    """Return what an error says, with the older errors that are noted on it; safe to show."""
    said = str(error)
    if not isinstance(error, TrackerError | OSError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return redact("; ".join([said, *getattr(error, "__notes__", ())]))


def trace(error: BaseException) -> str | None:
    """Return the traceback of what nobody foresaw, safe to show; None of what was foreseen."""
    if isinstance(error, UnexpectedError) and error.__cause__:
        error = error.__cause__
    if isinstance(error, TrackerError) or not isinstance(error, Exception):
        return None
    return redact("".join(traceback.format_exception(error)))
