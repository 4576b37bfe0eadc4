"""What a file is by its first bytes, whatever it is called."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tracker.errors import ModelError

_LONGEST_HEADER = 100_000_000  # bytes, of safetensors
_PAGE = "is a web page, not the file that it leads to; download that"
# How files of other kinds begin, in small letters, and what is to be said of them.
_BEGINNINGS = (
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, not the weights; `git lfs pull` gets them",
    ),
    (b"<!doctype", _PAGE),
    (b"<html", _PAGE),
    (b"<?xml", "is XML, not weights; OpenVINO's models are not read"),
    (b"\x89hdf\r\n\x1a\n", "is HDF5, as Keras writes, not weights of torch"),
    (b"\x1f\x8b", "is packed with gzip; unpack it first"),
    (b"bzh", "is packed with bzip2; unpack it first"),
    (b"\xfd7zxz", "is packed with xz; unpack it first"),
    (b"7z\xbc\xaf", "is packed with 7-Zip; unpack it first"),
    (b"rar!", "is packed with RAR; unpack it first"),
    (b"\x93numpy", "is one array of NumPy, not the weights of a model"),
    (b"gguf", "is GGUF, not weights of torch"),
    (b"{", "is JSON, not weights; where it is an index, its parts are not read"),
)
_ENDINGS = (".pth", ".pt", ".safetensors", ".bin", ".ckpt", ".tar", ".pkl")


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of safetensors: the length of its header, then JSON. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def check_contents(path: Path) -> None:
    """Raise ModelError that says what a path is where it cannot be weights. Raises OSError."""
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; {_files_in(path)}")
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    with path.open("rb") as file:
        head = file.read(512)
    what = _foreign(head, path)
    if what:
        raise ModelError(f"{path}: {what}")


def _foreign(head: bytes, path: Path) -> str | None:
    """Return what is to be said of a file of another kind; None of one that may be weights."""
    if not head:
        return "is empty; was it downloaded to its end?"
    small = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, what in _BEGINNINGS:
        if small.startswith(beginning):
            return what
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it and give the file in it"
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and head[2:3] == b"\x12"):
        return "is ONNX, which is a whole program, not weights of torch"
    return _in_zip(path)


def _in_zip(path: Path) -> str | None:
    """Return what is to be said of a zip that torch did not write."""
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return None
    if any(name.endswith("data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "is a file of NumPy's arrays (npz), not of torch"
    held = next((name for name in names if name.lower().endswith(_ENDINGS)), None)
    return f"is a zip archive; unpack it and give {held}" if held else "is a zip without weights"


def _files_in(folder: Path) -> str:
    files = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in _ENDINGS)
    if not files:
        return "give the file of weights, as weights.pth"
    return f"give a file in it: {', '.join(files[:4])}{', ...' if len(files) > 4 else ''}"
