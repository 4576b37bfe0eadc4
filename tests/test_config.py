import pytest
from conftest import ROOT

from tracker.config import RunConfig, build_config, load_config, parse_position, parse_stride
from tracker.errors import ConfigError


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_loads(path):
    assert isinstance(load_config(path), RunConfig)
    text = path.read_text()
    assert text.startswith("#")
    assert text.count("#") > 5


def test_the_default_configuration_names_every_setting_with_its_default():
    import tomllib

    path = ROOT / "configs" / "default.toml"
    assert load_config(path) == RunConfig()
    written = tomllib.loads(path.read_text())
    for section, model in RunConfig().model_dump().items():
        known = {key for key, value in model.items() if value is not None}
        assert known <= set(written[section]), section


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "detector.score_treshold=0.4",
            "unknown key 'detector.score_treshold'; did you mean 'score_threshold'?",
        ),
        ("detectr.device='cpu'", "unknown key 'detectr'; did you mean 'detector'?"),
        ("detector.batch_size='4'", "detector.batch_size must be a valid integer, got '4'"),
        ("detector.score_threshold=3", "less than or equal to 1, got 3"),
        ("tracker.memory_s=inf", "must be a finite number"),
        ("source.start=abc", "must be seconds (12.5 or 1:02:03) or a frame (300f), got 'abc'"),
        ("source.stride=0", "must be a number of frames (5) or seconds (0.5s), got 0"),
        ("count.lines.door=[1,2,1,2]", "line 'door' starts and ends at the same point"),
        ("count.lines.'a/b'=[1,2,3,4]", "needs a name of letters, digits, - and _"),
        ("count.lines.door=[1,2,3]", "count.lines.door needs a name"),
        ("detector.device='gpu'", "detector.device must be auto, cpu"),
        ("source.none=1", "unknown key 'source.none'"),
        ("none.x=1", "unknown key 'none'"),
        ("tracker.new_score=0.2", "scores must ascend"),
        ("detector={min_size=800,max_size=400}", "--set takes"),
        ("detector", "--set takes section.key=value, got 'detector'"),
        ("=1", "--set takes section.key=value"),
        ("detector.device.x=1", "detector.device"),
    ],
)
def test_wrong_settings_are_named(override, message):
    with pytest.raises(ConfigError) as error:
        load_config(None, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_errors_of_a_file_come_at_once(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[detector]\nbatch_size = 0\nmodle = 'x'\n[tracker]\nmemory_s = -1\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "detector.batch_size" in text
    assert "did you mean 'model'?" in text
    assert "tracker.memory_s" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"[detector\n", "not valid TOML"), (b"\xff\xfe", "not valid TOML")],
)
def test_a_file_that_is_none(tmp_path, content, message):
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[detector]\nscore_threshold = 0.3\nmodel = 'a'\n")
    config = load_config(path, ["detector.score_threshold=0.4", "count.lines.door=[0,0,1,1]"])
    assert config.detector.score_threshold == 0.4
    assert config.detector.model == "a"
    assert config.count.lines == {"door": (0, 0, 1, 1)}


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().detector.device = "cuda"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (12.5, ("seconds", 12.5)),
        ("12.5s", ("seconds", 12.5)),
        ("1:02:03.5", ("seconds", 3723.5)),
        ("2:30", ("seconds", 150)),
        ("300f", ("frames", 300)),
    ],
)
def test_positions(text, expected):
    assert parse_position(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1:2:3:4", "f", "1e3", "x", ":"])
def test_wrong_positions(text):
    with pytest.raises(ValueError, match="must be seconds"):
        parse_position(text)


def test_strides():
    assert parse_stride(5) == parse_stride("5") == ("frames", 5)
    assert parse_stride("0.5s") == ("seconds", 0.5)


def test_defaults_need_nothing():
    assert build_config({}) == RunConfig()
