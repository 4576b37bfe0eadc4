"""Files of torch.save: their tensors and plain values, without running any code of them."""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from tracker.errors import ModelError

SAVE = '`torch.save(model.state_dict(), "weights.pth")` in the script that made it'
_LEGACY_PICKLES = 4  # a file of before torch 1.6 begins with a magic number and three more
_NEWEST_PROTOCOL = 2  # of pickle, which torch reads without running code
_NEEDS = re.compile(r"Can only (append|SETITEM).* but got <class '([^']+)'>")
_KNOWN = re.compile(r"collections\.|torch\.(?!nn\.modules)|numpy\.")  # is not what is refused
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before numpy 2, and since


class StandIn(dict[Any, Any]):
    """What an object of another class held, in its place: the class itself is not imported."""

    def __new__(cls, *_args: object) -> StandIn:
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_args: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        """Take the attributes, where they are what most classes have."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.__dict__.update(part)

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)  # it may be a key

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def is_module(self) -> bool:
        """Whether it was a torch module."""
        return "_modules" in vars(self) and "_parameters" in vars(self)


class _StandInItems(StandIn):
    """Give way to a dictionary: torch sets no items of anything else."""

    def __new__(cls, *_args: object) -> Any:
        return OrderedDict()


class _StandInList(StandIn):
    """Give way to a list: torch appends to nothing else."""

    def __new__(cls, *_args: object) -> Any:
        return []


def children(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a dictionary, a list or an object that was not imported holds, by name."""
    if isinstance(content, StandIn):
        yield from ((str(name), value) for name, value in vars(content).items())
    if isinstance(content, Mapping):
        yield from ((str(name), value) for name, value in content.items())
    elif isinstance(content, list | tuple):
        yield from ((str(number), value) for number, value in enumerate(content))


def find_stand_ins(content: Any) -> list[StandIn]:
    """Return what stands in for objects anywhere in what a file holds, torch modules first."""
    found: dict[int, StandIn] = {}
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, StandIn):
            found[id(part)] = part
        waiting += [value for _, value in children(part)][::-1]
    return sorted(found.values(), key=lambda one: not one.is_module)


def class_of(stand_in: StandIn) -> str:
    """Return the name of the class that was not imported."""
    return f"{type(stand_in).__module__}.{type(stand_in).__qualname__}"


def code_refusal(path: Path, stand_in: StandIn) -> ModelError:
    """Return the sentence for a file whose model is an object, not tensors."""
    if stand_in.is_module:
        return ModelError(
            f"{path}: refused: holds a whole pickled model ({class_of(stand_in)}), which is code; "
            f"save its tensors: {SAVE}"
        )
    return _refusal(path, class_of(stand_in))


def read_pickled(path: Path) -> Any:
    """Return what a file of torch.save holds; objects of unknown classes are StandIns.

    Raises ModelError for a file that cannot be read so.
    """
    if _is_script(path):
        raise ModelError(
            f"{path}: is a TorchScript archive, which is code; save its tensors: "
            '`torch.save(torch.jit.load(FILE).state_dict(), "weights.pth")`'
        )
    names = _global_names(path)
    arrays = _array_globals()
    harmless = {f"{one.__module__}.{one.__qualname__}" for one in arrays}
    stand_ins = {name: _stand_in(name, StandIn) for name in names if name not in harmless}
    for _ in range(len(stand_ins) + 1):
        try:
            return _load(path, [*stand_ins.values(), *arrays])
        except pickle.UnpicklingError as exc:
            need = _NEEDS.search(str(exc))
            if need is None or need[2] not in stand_ins:
                raise _unreadable(path, names) from exc
        kind = _StandInList if need[1] == "append" else _StandInItems
        stand_ins[need[2]] = _stand_in(need[2], kind)
    raise _unreadable(path, names)


def _load(path: Path, known: list[Any]) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals(known):
        warnings.simplefilter("ignore")  # of old formats, which are read all the same
        with path.open("rb") as file:  # by its name alone torch takes it for safetensors
            return torch.load(file, map_location="cpu", weights_only=True)


def _stand_in(name: str, kind: type[StandIn]) -> type[StandIn]:
    """Return a class that is called as the one it stands for."""
    module, _, own = name.rpartition(".")
    return type(own, (kind,), {"__module__": module, "__qualname__": own})


def _unreadable(path: Path, names: Sequence[str]) -> ModelError:
    """Return the sentence for a file that torch does not read without running code of it."""
    protocol = _protocol(path)
    if protocol > _NEWEST_PROTOCOL:
        return ModelError(
            f"{path}: was saved with pickle protocol {protocol}, which is not read without "
            f"running code; leave out pickle_protocol: {SAVE}"
        )
    return _refusal(path, next((name for name in names if not _KNOWN.match(name)), ""))


def _refusal(path: Path, name: str) -> ModelError:
    named = f" ({name})" if name else ""
    return ModelError(
        f"{path}: refused: the file is damaged or holds code, not only tensors{named}; save what "
        f"is needed: {SAVE}"
    )


# ---- what a file names ----------------------------------------------------------------------


def _global_names(path: Path) -> list[str]:
    """Return the classes and functions that a file names, as torch will look them up."""
    names = []
    for operation, argument in _operations(path):
        if operation == "GLOBAL":
            names.append(_todays_name(*argument.split(" ", 1)))
    return list(dict.fromkeys(names))


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _protocol(path: Path) -> int:
    protocols = [argument for operation, argument in _operations(path) if operation == "PROTO"]
    return max(protocols, default=0)


def _todays_name(module: str, name: str) -> str:
    """Return the full name of what Python 2 may have called otherwise."""
    if (module, name) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, name])
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _operations(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the steps of a file's pickles, none of which is done, up to where it is damaged."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                for _ in range(_LEGACY_PICKLES):
                    yield from _steps(file)
            return
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if entry.endswith("data.pkl"):
                    yield from _steps(archive.open(entry))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return  # torch says what is wrong


def _steps(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    for operation, argument, _ in pickletools.genops(file):
        yield operation.name, argument


# ---- arrays of numpy, which are harmless ----------------------------------------------------


def _array_globals() -> list[Any]:
    """Return what builds arrays and scalars of numpy, under the names of every version."""
    kinds = [kind for kind in vars(np.dtypes).values() if isinstance(kind, type)]
    builders = [
        _found_at(module, value.__reduce__()[0])
        for module in _ARRAY_MODULES
        for value in (np.zeros(1), np.float64(0))
    ]
    return [np.ndarray, np.dtype, np.record, *kinds, *builders]


def _found_at(module: str, build: Any) -> Callable[..., Any]:
    """Return a function as one of another module.

    Of a subclass of arrays, which is not imported, it returns what stands in for it.
    """

    def built(*args: Any) -> Any:
        kind = args[0] if args else None
        is_other = isinstance(kind, type) and issubclass(kind, StandIn)
        return kind() if kind and is_other else build(*args)

    built.__module__ = module
    built.__name__ = built.__qualname__ = build.__name__
    return built
