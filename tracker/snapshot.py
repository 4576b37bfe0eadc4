"""What a run must remember after a frame, typed: it travels with that frame through the lane.

The source puts its mark in, each stage adds its state when the frame passes, and behind the sinks
the whole is published. As JSON it is what a checkpoint holds.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tracker.masks import MaskJson

Row = tuple[float, ...]


class State(BaseModel):
    """A part of what is remembered: unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# ---- the source ---------------------------------------------------------------------------------


class ClockState(State):
    """How container times become seconds from the first frame."""

    last: float | None  # s, of the latest frame
    offset: float | None  # s, from the container's time to ours


class SourceMark(State):
    """Where the latest frame lay in its source, and what was read by then."""

    index: int
    pts: int | None = None  # in the stream's time base; None where it tells no frame from another
    suspect: bool = False
    clock: ClockState | None = None  # None of images
    size: tuple[int, ...]  # px, of the picture as stored
    report: dict[str, int | tuple[str, ...] | None]  # of SourceReport
    ahead: int | None = None  # packets read behind that of the frame; None where it is not known
    taken: int = 0  # frames that the stride has seen
    next_time: float = 0.0  # s, when it takes the next
    picture: int | None = None  # CRC-32 of the frame's pixels


# ---- the associator -----------------------------------------------------------------------------


class SightingState(State):
    """A detection of a track that is not confirmed."""

    frame: int  # position among the frames of the associator
    time: float  # s
    box: Row
    score: float
    label: int
    mask: MaskJson | None
    source: int


class TableState(State):
    """Tracks, a row each; see associate/track_table.py."""

    mean: tuple[tuple[Row, ...], ...]
    covariance: tuple[tuple[Row, ...], ...]
    box: tuple[Row, ...]
    body: tuple[Row, ...]
    offset: tuple[Row, ...]
    average_velocity: tuple[Row, ...]
    score: Row
    total: Row
    seen: Row
    hits: tuple[int, ...]
    id: tuple[int, ...]
    source: tuple[int, ...]
    votes: tuple[Row, ...]
    embedding: tuple[Row, ...]
    masks: tuple[MaskJson | None, ...]
    past: tuple[tuple[SightingState, ...], ...]
    labels: int  # columns of votes
    features: int  # columns of embedding


class PictureState(State):
    """A small grey picture."""

    width: int
    height: int
    zlib: str  # base64 of its compressed bytes


class CameraState(State):
    """What the camera's motion is told from."""

    picture: PictureState | None
    objects: tuple[Row, ...]
    still: int
    skipped: int
    change: float


class AppearanceState(State):
    """What all looks have in common."""

    count: int
    mean: Row
    spread: Row


class GalleryState(State):
    """Who is gone but may return."""

    appearance: AppearanceState
    gone: TableState


class TrackerState(State):
    """All that MaskTracker knows."""

    frames: int
    next_id: int
    usual_scores: tuple[tuple[int, float], ...]  # label, score
    now: float | None  # s
    detected: float | None  # s
    size: tuple[int, int] | None  # px
    gallery: GalleryState | None
    camera: CameraState | None
    flow: PictureState | None
    tracks: TableState


# ---- counting -----------------------------------------------------------------------------------


class ObjectState(State):
    """When one object was seen."""

    id: int
    label: int
    first_seen: float
    last_seen: float
    frames: int


class BinState(State):
    """One class in one time bin that is over."""

    number: int
    label: int
    unique: int
    new: int
    max_at_once: int


class TotalsState(State):
    """Objects so far, and the open time bin."""

    objects: tuple[ObjectState, ...]
    max_at_once: tuple[tuple[int, int], ...]  # label, number
    bins: tuple[BinState, ...]
    bin: int
    in_bin: tuple[tuple[int, int], ...]  # id, label
    new_in_bin: tuple[int, ...]
    peak_in_bin: tuple[tuple[int, int], ...]  # label, number


class ExtentState(State):
    """An object along one axis, px; see count/place.py."""

    low: float
    high: float
    size: float
    usual: float
    offset: float


class PlaceState(State):
    """Where one object was seen last."""

    id: int
    label: int
    x: ExtentState
    y: ExtentState
    velocity: tuple[float, float] | None  # px/s
    frame: int
    time: float  # s
    gap: float  # s
    enters: bool


class StayState(State):
    """How long an object has been beyond a line; see count/path.py."""

    met: tuple[float, float] | None
    since: float  # s
    share: float
    frame: int | None
    time: float  # s


class PathState(State):
    """What one line knows of one object."""

    line: str
    id: int
    side: int
    last: tuple[float, float]
    start: tuple[float, float] | None
    stay: StayState | None
    returns: int


class LinesState(State):
    """Lines in px, who went over them, and who may."""

    lines: tuple[tuple[str, tuple[float, float], tuple[float, float]], ...]
    counts: tuple[tuple[str, str, int, int], ...]  # line, direction, label, number
    places: tuple[PlaceState, ...]
    paths: tuple[PathState, ...]
    next_clean_up: float
    size: tuple[int, int] | None
    recent: tuple[tuple[int, float], ...]  # the latest frames: index, s


class CountState(State):
    """All that counting knows."""

    frames: int
    end: float  # s
    totals: TotalsState
    lines: LinesState | None  # None before the first frame
    crossings: tuple[tuple[int, int, str, int], ...]  # bin, label, column, number


# ---- the sinks ----------------------------------------------------------------------------------


class FileState(State):
    """How much of a growing file belongs to the run."""

    bytes: int


class LogState(FileState):
    """A track log."""

    width: int  # px, of the first frame
    height: int


class TrailState(State):
    """The path behind one object."""

    id: int
    points: tuple[tuple[float, float, float], ...]  # s, px, px


class VideoState(State):
    """An annotated video."""

    width: int  # px, of the first frame
    height: int
    frames: int  # given to the encoder
    first_time: float | None  # s
    last_tick: int
    trails: tuple[TrailState, ...]
    trail_size: tuple[int, int] | None  # px, of the frames of the trails


class SinkStates(State):
    """What the sinks of a run need to go on."""

    log: LogState
    events: FileState | None = None
    video: VideoState | None = None
    archive: FileState | None = None
    detections: LogState | None = None


# ---- the whole ----------------------------------------------------------------------------------


class StageState(State):
    """The work of one stage so far."""

    seconds: float
    frames: int


class Snapshot(State):
    """All that a lane knows after a frame; stages fill it in as it passes."""

    frames: int  # done
    source: SourceMark
    tracker: TrackerState | None = None
    counts: CountState | None = None
    sinks: SinkStates | None = None
    wall_s: float = 0.0
    stages: dict[str, StageState] = {}
    cost_s: float = Field(default=0.0, exclude=True)  # what taking it cost so far; not written down

    def adding(
        self, *, spent_s: float = 0.0, **parts: State | float | dict[str, StageState] | None
    ) -> Snapshot:
        """Return the snapshot with more of its parts known, which cost `spent_s` s to tell."""
        return self.model_copy(update={**parts, "cost_s": self.cost_s + spent_s})
