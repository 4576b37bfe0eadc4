"""Models of the user's own: a function in a file or a package that returns a module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tracker.errors import ModelError


def call_factory(name: str) -> nn.Module:
    """Return the module of package.module:function or file.py:function; raise ModelError."""
    place, _, function = name.rpartition(":")
    factory = _find_factory(place, function)
    try:
        module = factory()
    except Exception as exc:
        raise ModelError(f"{name}: the factory failed: {type(exc).__name__}: {exc}") from exc
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name}: must return a torch module, got {type(module).__name__}")
    return module


def _find_factory(place: str, function: str) -> Callable[[], Any]:
    if not place or not function:
        raise ModelError(
            "detector.model must be a name, package.module:function or file.py:function"
        )
    try:
        python = _load(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (ImportError, OSError, SyntaxError) as exc:
        raise ModelError(f"{place}: cannot be imported: {exc}") from exc
    except Exception as exc:
        raise ModelError(f"{place}: fails where it is read: {type(exc).__name__}: {exc}") from exc
    factory = getattr(python, function, None)
    if not callable(factory):
        raise ModelError(f"{place}: has no function {function!r}")
    return factory  # type: ignore[no-any-return]


def _load(path: Path) -> ModuleType:
    """Execute a file as a module; dataclasses and pickles look it up by its name meanwhile."""
    name = f"tracker_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path}: is not a Python file")
    python = importlib.util.module_from_spec(spec)
    sys.modules[name] = python
    try:
        spec.loader.exec_module(python)
    except BaseException:
        del sys.modules[name]
        raise
    return python
