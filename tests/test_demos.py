import importlib

import pytest
from conftest import ROOT

from tracker.video.source import open_source


def demo(name):
    return importlib.import_module(name)


def test_demo(tmp_path, capsys):
    demo("demo").main(str(tmp_path / "run"), 3.0)
    out = capsys.readouterr().out
    assert "stub" in out
    assert "scripted" in out
    assert "person:" in out
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {
        "video.mp4",
        "tracks.jsonl",
        "counts.json",
        "counts.csv",
        "events.jsonl",
        "report.json",
        "run.toml",
    }
    assert len(list(open_source(tmp_path / "run" / "video.mp4"))) == 75


def test_count_people(capsys):
    assert demo("count_people").main(seconds=1.0) == 8
    assert "8 people, 8 so far" in capsys.readouterr().out


def test_count_line(capsys):
    assert demo("count_line").main() == {"in": 2, "out": 3}


def test_own_detector(capsys):
    assert demo("own_detector").main(1.2) == 2


def test_stages_by_hand(tmp_path, capsys):
    assert demo("stages_by_hand").main(output=str(tmp_path), seconds=0.8) == 20
    assert {p.name for p in tmp_path.iterdir()} == {
        "video.mp4",
        "tracks.jsonl",
        "counts.json",
        "counts.csv",
    }


@pytest.mark.parametrize(
    "path", [p for p in (ROOT / "demos").glob("*.py") if p.stem != "scene"], ids=lambda p: p.stem
)
def test_every_demo_is_short_and_tested(path):
    assert len(path.read_text().splitlines()) <= 60
    assert f'demo("{path.stem}")' in (ROOT / "tests" / "test_demos.py").read_text()
