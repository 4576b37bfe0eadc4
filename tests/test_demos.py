import importlib

import pytest
from conftest import ROOT

from tracker.errors import MissingExtraError
from tracker.video.source import open_source


def demo(name):
    return importlib.import_module(name)


def test_demo(tmp_path, capsys):
    """The real model on the real clip and on the scripted street."""
    demo("demo").main(str(tmp_path), 2.0)
    out = capsys.readouterr().out
    assert "bikes: 50 frames" in out
    assert "street: 50 frames" in out
    assert "person: " in out
    assert "vehicle: " in out
    for name in ("bikes", "street"):
        assert {p.name for p in (tmp_path / name).iterdir()} == {
            "video.mp4",
            "tracks.jsonl",
            "counts.json",
            "counts.csv",
            "events.jsonl",
            "report.json",
            "run.toml",
        }
        assert len(list(open_source(tmp_path / name / "video.mp4"))) == 50


def test_demo_without_its_clip(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"mask-tracker\[demo\]"):
        demo("demo").main(str(tmp_path), 2.0)


def test_count_people(capsys):
    assert 7 <= demo("count_people").main(seconds=1.0) <= 9  # 8 are there
    assert " people, " in capsys.readouterr().out


def test_count_line(capsys):
    found = demo("count_line").main(seconds=8.0)
    assert found["in"] == 2
    assert 2 <= found["out"] <= 4


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
    "path",
    [p for p in (ROOT / "demos").glob("*.py") if p.stem not in ("scene", "embedded")],
    ids=lambda p: p.stem,
)
def test_every_demo_is_short_and_tested(path):
    assert len(path.read_text().splitlines()) <= 60
    assert f'demo("{path.stem}")' in (ROOT / "tests" / "test_demos.py").read_text()
