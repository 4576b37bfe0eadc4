"""The house of the architecture: imports point down, and a heavy dependency has one room."""

import ast
import importlib
import sys
from importlib.util import resolve_name

import pytest
from conftest import ROOT

LAYERS = [
    {"errors", "files"},
    {"boxes", "masks", "prefetch", "config"},
    {"types", "snapshot"},
    {"video", "detect", "associate", "count", "formats", "drawing"},
    {"pipeline", "sinks"},
    {"runs", "measure", "train"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# Within a layer a room may only use its own modules, but for these arrows.
SIDEWAYS = {("types", "snapshot"), ("files", "errors")}
HEAVY = {
    "av": {"video"},
    "torch": {"detect", "train"},
    "torchvision": {"detect", "train"},
    "lightning_fabric": {"train"},
    "PIL": {"train", "video"},
    "safetensors": {"detect"},
    "cv2": {"drawing", "associate"},
    "scipy": {"associate", "measure"},
    "filterpy": {"associate"},
    "pydantic": {"config", "snapshot", "train", "runs", "sinks"},
    "pydantic_core": {"runs"},
    "pycocotools": {"masks", "train"},
    "pyarrow": {"formats"},
    "supervision": {"types"},
    "setproctitle": {"__main__"},
    "tomli_w": {"runs", "train"},
    "trackeval": {"measure"},
    "matplotlib": {"measure", "train"},
    "typer": {"cli"},
    "rich": {"cli"},
}
LIGHT = {"numpy"}
MODULES = sorted(
    p for p in (ROOT / "tracker").rglob("*.py") if p != ROOT / "tracker" / "__init__.py"
)


def room(path):
    return path.relative_to(ROOT / "tracker").parts[0].removesuffix(".py")


def imports(path):
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            yield resolve_name(name, package) if node.level else name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = room(path)
    assert here in RANK, f"{here} has no place in the house"
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "tracker" and rest and rest[0] != here:
            there = rest[0]
            down = RANK[there] < RANK[here] or (here, there) in SIDEWAYS
            assert down, f"{here} must not import {there}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_heavy_dependency_has_one_room(path):
    for name in imports(path):
        top = name.split(".")[0]
        if top == "tracker" or top in sys.stdlib_module_names or top in LIGHT:
            continue
        assert top in HEAVY, f"{top} has no room yet"
        assert room(path) in HEAVY[top], f"{top} belongs into {HEAVY[top]}, not {room(path)}"


def test_no_module_is_called_by_what_it_is_not():
    forbidden = {"utils", "util", "helpers", "common", "base", "misc"}
    assert not {path.stem for path in MODULES} & forbidden


def test_files_stay_short():
    long = {
        str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text().splitlines())) > 360
    }
    assert not long


def test_the_house_has_these_rooms_and_no_others():
    names = {p.name.removesuffix(".py") for p in (ROOT / "tracker").iterdir()}
    assert names - {"__init__", "__pycache__", "py.typed", "configs"} == set(RANK)


def test_the_readme_names_every_room():
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in RANK if f"`{name}" not in readme and f"`{name}/`" not in readme]
    assert not missing


def test_no_two_modules_share_a_name():
    """But for commands and values, which are called as what deals with them."""
    named = {"__init__.py", "__main__.py"}
    named_alike = {"cli", "types"}
    names = [p.stem for p in MODULES if p.name not in named and p.parent.name not in named_alike]
    assert sorted(names) == sorted(set(names))


def test_no_module_is_shadowed_by_a_function_of_its_name():
    for path in MODULES:
        if path.name != "__init__.py" and path.stem != "__main__":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = importlib.import_module(name)
            parent, _, own = name.rpartition(".")
            assert getattr(importlib.import_module(parent), own) is module, name


def test_every_module_says_what_it_is():
    for path in MODULES:
        if path.name != "__init__.py" or path.read_text().strip():
            assert ast.get_docstring(ast.parse(path.read_text())), path
