"""Every setting of a run, once: name, type, default, unit and range; nothing is ignored."""

from __future__ import annotations

import json
import logging
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tracker.errors import ConfigError
from tracker.files import JsonObject

log = logging.getLogger(__name__)
Override = str | tuple[str, Any]  # section.key=value, or section.key and its value
_RENAMED = {
    ("tracker", "cruise_s"): "velocity_average_s",
    ("tracker", "gallery_likeness"): "gallery_similarity",
}  # section and old name -> new name; understood for one version


def parse_position(text: float | str) -> tuple[Literal["seconds", "frames"], float]:
    """Read a place in a video: 12.5, "12.5", "1:02:03.5" are seconds, "300f" is a frame."""
    if isinstance(text, str):
        if match := re.fullmatch(r"(\d+)f", text.strip()):
            return "frames", int(match[1])
        parts = text.strip().removesuffix("s").split(":")
        if len(parts) > 3 or not all(re.fullmatch(r"\d+(\.\d*)?|\.\d+", part) for part in parts):
            raise ValueError(f"must be seconds (12.5 or 1:02:03) or a frame (300f), got {text!r}")
        seconds = 0.0
        for part in parts:
            seconds = seconds * 60 + float(part)
        return "seconds", seconds
    if text < 0:
        raise ValueError(f"must not be negative, got {text}")
    return "seconds", float(text)


def parse_stride(text: float | str) -> tuple[Literal["seconds", "frames"], float]:
    """Read a step: 5 or "5" takes every fifth frame, "0.5s" one frame each half second."""
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d*)?|\.\d+)s", str(text).strip())
    value = float(match[1] or match[2]) if match else 0.0
    if not match or value <= 0:
        raise ValueError(f"must be a number of frames (5) or seconds (0.5s), got {text!r}")
    return ("frames" if match[1] else "seconds"), value


def _checked(parse: Callable[[Any], object]) -> AfterValidator:
    """Return a validator that keeps a value as it is if it can be parsed."""

    def check(value: Any) -> Any:
        parse(value)
        return value

    return AfterValidator(check)


def _check_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError(f"must be auto, cpu, mps, cuda or cuda:1, got {value!r}")
    return value


Device = Annotated[str, AfterValidator(_check_device)]
Position = Annotated[float | str, _checked(parse_position)]
Stride = Annotated[int | str, _checked(parse_stride)]
Fraction01 = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Scale = Annotated[float, Field(ge=1, le=4)]
LineName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Section(BaseModel):
    """A group of settings: unknown names, wrong types and infinite numbers are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=True
    )


class SourceConfig(Section):
    """Which part of the video is read."""

    start: Position = 0.0  # first moment: seconds (12.5, "1:02:03") or frame ("300f")
    end: Position | None = None  # last moment, not included; none = to the end
    stride: Stride = 1  # take every k-th frame (5), or one frame each so many seconds ("0.5s")
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None  # of what tells none; images: 10/s
    max_pixels: Annotated[int, Field(ge=1)] = 8192 * 8192  # larger pictures are refused, px
    stream: Annotated[int, Field(ge=0)] | None = None  # number of the video stream; none = the best
    open_timeout_s: Positive = 10.0  # cameras and URLs
    read_timeout_s: Positive = 10.0  # cameras and URLs: longest silence

    @model_validator(mode="after")
    def _ends_after_start(self) -> SourceConfig:
        if self.end is not None:
            (unit, start), (end_unit, end) = parse_position(self.start), parse_position(self.end)
            if unit == end_unit and end <= start:
                raise ValueError(f"end ({self.end}) must be after start ({self.start})")
        return self


class DetectorConfig(Section):
    """How instances are found."""

    model: str | None = None  # torchvision name, package.module:f, file.py:f; none = by weights
    weights: str = "default"  # "default" = the builder's own, "embedded", or a file
    classes: tuple[str, ...] = ()  # names to keep; none = all
    classes_file: str | None = None  # names of all classes, one a line, JSON or YAML
    score_threshold: Fraction01 = 0.1  # detections below are never seen by the tracker
    min_size: Annotated[int, Field(ge=32, le=8192)] | None = None  # shorter side in the model, px
    max_size: Annotated[int, Field(ge=32, le=8192)] | None = None  # longer side in the model, px
    proposals: Annotated[int, Field(ge=1, le=10000)] | None = None  # regions looked at in a frame
    max_detections: Annotated[int, Field(ge=1, le=1000)] | None = None  # a frame
    every: Annotated[int, Field(ge=1, le=100)] = 1  # detect every k-th frame, carry tracks between
    batch_size: Annotated[int, Field(ge=1, le=256)] | None = None  # frames; none = by the device
    device: Device = "auto"  # auto, cpu, mps, cuda, cuda:1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the dense layers
    threads: Annotated[int, Field(ge=0, le=1024)] = 0  # CPU threads of the model; 0 = auto

    @model_validator(mode="after")
    def _sizes_are_ordered(self) -> DetectorConfig:
        if self.min_size and self.max_size and self.min_size > self.max_size:
            said = f"min_size ({self.min_size}) must not exceed max_size ({self.max_size})"
            raise ValueError(said)
        return self


class TrackerConfig(Section):
    """How detections become tracks. All durations are seconds, so any frame rate works."""

    confident_score: Fraction01 = 0.6  # at or above: matched first, may start a track
    new_score: Fraction01 = 0.6  # a track starts at or above
    weak_score: Fraction01 = 0.2  # weaker than confident but at least this: matched second
    weak_gap_s: Seconds = 0.35  # weak detections continue only tracks seen this recently
    weak_trust: Fraction01 = 0.7  # and only those whose detections score so much on average
    weak_similarity: Fraction01 = 0.5  # and only where they fit so well
    confirm_hits: Annotated[int, Field(ge=1)] = 3  # detections that confirm a tentative track
    confirm_score: Fraction01 = 0.65  # and their least average score
    confirm_share: Fraction01 = 0.85  # and its least share of the class's usual score
    instant_score: Fraction01 = 0.97  # a track is confirmed at once at or above
    tentative_gap_s: Seconds = 0.5  # a tentative track unseen for longer is given up
    memory_s: Seconds = 2.0  # a confirmed track unseen for longer is gone
    coast_s: Seconds = 0.0  # report a lost track's predicted box for this long
    min_similarity: Fraction01 = 0.2  # of two boxes or masks, to be matched at all
    class_change_similarity: Fraction01 = 0.5  # the same, across two classes
    class_vote: bool = True  # a track's class is voted over its life, else that of the last frame
    whole_objects: bool = True  # a box that something cuts tells less about the object's place
    mask_weight: Fraction01 = 0.5  # share of mask IoU in the similarity, box IoU has the rest
    recovery_scale: Scale = 2.0  # lost tracks look in boxes this wider
    recovery_similarity: Fraction01 = 0.3  # of the widened boxes
    velocity_average_s: Positive = 0.15  # a lost track keeps its average motion of this time
    gate: Positive = 50.0  # squared Mahalanobis distance of the centre
    position_noise: Positive = 0.05  # detector's box noise, of the size
    acceleration_noise: Positive = 0.7  # objects' acceleration, sizes/s^1.5
    size_noise: Positive = 0.3  # objects' growth, sizes/s^0.5
    lost_damping_s: Positive = 6.0  # a lost track's velocity fades in this time
    gallery_s: Seconds = 0.0  # who returns within this time and looks the same gets the old id
    gallery_similarity: Fraction01 = 0.8  # least cosine of the two looks
    camera_motion: bool = True  # follow the background, so that tracks move with the camera
    duplicate_overlap: Fraction01 = 0.7  # a new track so far inside another's mask or box is none

    @model_validator(mode="after")
    def _scores_are_ordered(self) -> TrackerConfig:
        names = ("weak_score", "confident_score", "new_score", "instant_score")
        scores = {name: dict(self)[name] for name in names}
        if list(scores.values()) != sorted(scores.values()):
            said = ", ".join(f"{name} {value:g}" for name, value in scores.items())
            raise ValueError(f"scores must ascend, got {said}")
        if 0 < self.gallery_s <= self.memory_s:
            raise ValueError(
                f"gallery_s must be 0 or more than memory_s ({self.memory_s:g}), "
                f"got {self.gallery_s:g}"
            )
        return self


class RefineConfig(Section):
    """How tracks are refined when the whole video is known (--refine)."""

    fill_s: Seconds = 0.3  # gaps up to this long are filled with moved boxes and masks
    join_s: Seconds = 1.0  # a track may go on as another one after a gap up to this long
    join_scale: Scale = 1.5  # in boxes this wider
    join_similarity: Fraction01 = 0.5  # of these boxes in the middle of the gap
    min_hits: Annotated[int, Field(ge=1)] = 4  # tracks seen less often are ghosts
    min_score: Fraction01 = 0.65  # and those with a lower average score
    min_share: Fraction01 = 0.85  # or with a lower share of what their class scores on average


class CountConfig(Section):
    """What is counted."""

    # name -> x1, y1, x2, y2 in px, or fractions of the frame if all are in [0, 1]
    lines: dict[LineName, tuple[float, float, float, float]] = {}
    anchor: Literal["center", "bottom"] = "center"  # the point of a box that must cross
    hysteresis: Fraction01 = 0.1  # how far beyond a line counts as crossed, of the box's height
    bin_s: Positive = 60.0  # width of the time bins of counts.csv

    @model_validator(mode="after")
    def _lines_are_clear(self) -> CountConfig:
        for name, points in self.lines.items():
            if points[:2] == points[2:]:
                raise ValueError(f"line {name!r} starts and ends at the same point")
            parts = [f"{value:g}" for value in points if 0 < abs(value) < 1]
            if parts and not all(0 <= value <= 1 for value in points):
                what = f"line {name!r} mixes px and fractions of the frame ({', '.join(parts)})"
                raise ValueError(f"{what}: give all four in px, or all four from 0 to 1")
        return self


class OutputConfig(Section):
    """What is written and drawn."""

    video: bool = True  # write video.mp4
    refine: bool = False  # also write tracks-refined.jsonl, made when the whole video is known
    detections: bool = False  # also write detections.jsonl, for `tracker associate`
    audio: bool = True  # keep the source's sound in it
    crf: Annotated[int, Field(ge=0, le=51)] = 23  # x264 quality, lower is better and larger
    preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower"
    ] = "veryfast"  # x264 effort
    masks: bool = True  # draw masks
    boxes: bool = True  # draw boxes
    labels: bool = True  # draw id, class and score
    trail_s: Seconds = 2.0  # length of the path drawn behind an object
    panel: bool = True  # draw the counts panel
    least_free_mb: Annotated[float, Field(ge=0)] = 100.0  # of the disk; below, a run is stopped
    checkpoint_s: Seconds = 2.0  # between two; with a video they lag by up to 50 frames


class RunConfig(Section):
    """The whole run: one section per stage."""

    source: SourceConfig = SourceConfig()
    detector: DetectorConfig = DetectorConfig()
    tracker: TrackerConfig = TrackerConfig()
    refine: RefineConfig = RefineConfig()
    count: CountConfig = CountConfig()
    output: OutputConfig = OutputConfig()

    def anchored(self) -> RunConfig:
        """Return the settings with the files that they name by their whole paths."""
        detector, whole = self.detector, dict[str, str]()
        for key, name in (("weights", detector.weights), ("classes_file", detector.classes_file)):
            if name is not None and Path(name).is_file():
                whole[key] = str(Path(name).absolute())
        module, _, function = (detector.model or "").rpartition(":")
        if Path(module).is_file():
            whole["model"] = f"{Path(module).absolute()}:{function}"
        return self.model_copy(update={"detector": detector.model_copy(update=whole)})

    def deciding(self) -> JsonObject:
        """Return the settings that change what a run writes, as JSON types."""
        return self.model_dump(mode="json", exclude={"output": {"least_free_mb", "checkpoint_s"}})


def load_config(path: Path | None = None, overrides: Sequence[Override] = ()) -> RunConfig:
    """Read settings from a TOML file, then apply overrides: `section.key=value`, or key and value.

    Raises ConfigError that names every unknown key (with the nearest known one), wrong type and
    value out of range at once.
    """
    values: JsonObject = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ConfigError(f"{path}: is not valid TOML: {exc}") from exc
        config = build_config(values, where=str(path))
        if not overrides:
            return config
    for override in overrides:
        _apply(values, override)
    return build_config(values)


def build_config(values: JsonObject, where: str = "settings") -> RunConfig:
    """Check plain values (as TOML gives them) and return the settings; raise ConfigError."""
    _rename(values, where)
    try:
        return RunConfig.model_validate_json(json.dumps(values, default=str))
    except ValidationError as exc:
        raise ConfigError(f"{where}: {'; '.join(sentences(exc))}") from exc


def _rename(values: JsonObject, where: str) -> None:
    for (section, old), new in _RENAMED.items():
        table = values.get(section)
        if isinstance(table, dict) and old in table:
            log.warning("%s: %s.%s is called %s.%s now", where, section, old, section, new)
            table.setdefault(new, table[old])
            del table[old]


def parse_value(text: str) -> Any:
    """Read the value of a setting as TOML writes it; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()


def _apply(values: JsonObject, override: Override) -> None:
    """Set one value; what is given as text is read as TOML."""
    if isinstance(override, str):
        key, separator, text = override.partition("=")
        value, said = parse_value(text), override
    else:
        (key, value), separator, said = override, "=", override[0]
    path = [part.strip() for part in key.split(".")]
    if not separator or len(path) < 2 or not all(path):
        raise ConfigError(f"--set takes section.key=value, got {said!r}")
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {said}: {part!r} is not a section")
    table[path[-1]] = value


def sentences(error: ValidationError, model: type[BaseModel] | None = None) -> Iterable[str]:
    """Yield one sentence for each wrong setting of `model`, by default of a run."""
    seen = set()
    for item in error.errors(include_url=False):
        unknown = item["type"] == "extra_forbidden"
        parts = [str(part) for part in item["loc"] if unknown or not _is_union_member(part)]
        name = ".".join(part for part in parts if part != "[key]")
        if unknown:
            sentence = f"unknown key {name!r}; {_hint(parts, model)}"
        elif parts[:2] == ["count", "lines"] and len(parts) > 2:
            name = ".".join(parts[:3])
            sentence = f"{name} needs a name of letters, digits, - and _, and x1, y1, x2, y2"
        else:
            message = item["msg"].removeprefix("Value error, ").replace("Input should", "must")
            got = "" if item["type"] == "value_error" else f", got {item['input']!r:.60}"
            sentence = f"{name} {message}{got}".strip()
        if name not in seen:  # a union reports one error per member: the first is enough
            yield sentence
        seen.add(name)


def _is_union_member(part: int | str) -> bool:
    """Tell pydantic's own names for the members of a union from a user's keys."""
    return isinstance(part, str) and re.search(r"[(\]]|^(float|str|int|none)$", part) is not None


def _hint(parts: Sequence[str], model: type[BaseModel] | None) -> str:
    """Say which key was meant by one that is unknown, or which are known there."""
    section: Any = model or RunConfig
    for part in parts[:-1]:
        section = section.model_fields[part].annotation
    near = get_close_matches(parts[-1], known := list(section.model_fields), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
