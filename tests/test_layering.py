"""The house of the architecture: imports point down, and a heavy dependency has one room."""

import ast
import sys
from importlib.util import resolve_name

import pytest
from conftest import ROOT

LAYERS = [
    {"errors"},
    {"boxes", "masks", "prefetch", "config"},
    {"types"},
    {"video", "detect", "associate", "count", "formats", "drawing"},
    {"pipeline", "sinks"},
    {"agreement", "assemble", "bench", "checkpoint", "evaluate", "labelling", "report", "train"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# Within a layer a room may only use its own modules, but for these arrows.
SIDEWAYS = {
    ("drawing", "count"),
    ("bench", "agreement"),
    ("assemble", "checkpoint"),
    ("assemble", "report"),
}
HEAVY = {
    "av": {"video"},
    "torch": {"detect", "train"},
    "torchvision": {"detect", "train"},
    "lightning_fabric": {"train"},
    "PIL": {"train"},
    "safetensors": {"detect"},
    "cv2": {"drawing", "associate"},
    "scipy": {"associate", "evaluate"},
    "filterpy": {"associate"},
    "pydantic": {"config", "train"},
    "pycocotools": {"masks", "train"},
    "pyarrow": {"formats"},
    "supervision": {"types"},
    "setproctitle": {"__main__"},
    "tomli_w": {"report", "train"},
    "trackeval": {"evaluate"},
    "matplotlib": {"evaluate", "train"},
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


def test_the_readme_names_every_module():
    readme = (ROOT / "README.md").read_text()
    missing = []
    for path in MODULES:
        name = str(path.relative_to(ROOT / "tracker"))
        if path.name != "__init__.py" and f"`{name}`" not in readme:
            missing.append(name)
    assert not missing
