"""How a run went: run.toml, report.json, and what lies in a run's folder."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from tracker.config import RunConfig, load_config
from tracker.errors import FormatError, explain, redact, trace
from tracker.files import read_json
from tracker.pipeline import RunStats
from tracker.runs import checkpoint
from tracker.runs.checkpoint import Checkpoint
from tracker.runs.folder import present_in
from tracker.runs.made import Fingerprint, version_of
from tracker.types import SourceReport
from tracker.types.stages import DetectorInfo

_REPORTED_PACKAGES = (
    "mask-tracker",
    "torch",
    "torchvision",
    "av",
    "numpy",
    "scipy",
    "opencv-python",
)


class ReportPart(BaseModel):
    """A part of report.json; what is not known is left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class InputReport(ReportPart):
    """What was read, and what was lost."""

    file: Fingerprint | None = None
    complete: bool = False
    packets: int = 0
    frames: int = 0
    skipped: int = 0
    dropped: int = 0
    unprocessed: int = 0  # read ahead of a stop
    bad_packets: int = 0
    missing: int = 0
    suspect: int = 0
    gaps: int = 0
    clock_jumps: int = 0
    size_changes: int = 0
    rotation: int = 0
    declared_frames: int | None = None
    notes: list[str] = []
    remarks: list[str] = []  # on what is odd, though nothing is lost by it


class DetectorReport(ReportPart):
    """What the detector ran on and how."""

    device: str = ""
    precision: str = ""
    threads: int = 0
    batch_size: int = 1
    notes: list[str] = []


class OutputReport(ReportPart):
    """What went differently from what was asked."""

    notes: list[str] = []


class StageReport(ReportPart):
    """The work of one stage."""

    seconds: float
    fps: float


class SpeedReport(ReportPart):
    """How fast it went."""

    wall_s: float = 0.0
    fps: float = 0.0
    stages: dict[str, StageReport] = {}


class Report(ReportPart):
    """The content of report.json."""

    version: int = 1
    source: str
    finished: bool
    stopped: bool
    error: str | None = None
    traceback: str | None = None  # of an error that nobody foresaw
    frames: int
    input: InputReport
    detector: DetectorReport = DetectorReport()
    output: OutputReport = OutputReport()
    speed: SpeedReport


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What lies in a folder, whatever became of its run."""

    folder: Path
    checkpoint: Checkpoint | None  # of one that may go on; it is read first
    report: Report | None  # of one that is over, or cannot go on
    files: tuple[str, ...]  # of a run, that are there

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read what a folder says of its run; raise FormatError where that is malformed."""
        files = tuple(present_in(folder))
        if (folder / checkpoint.NAME).is_file():
            return cls(folder, checkpoint.read(folder / checkpoint.NAME), None, files)
        path = folder / "report.json"
        if not path.is_file():
            return cls(folder, None, None, files)
        try:
            return cls(folder, None, Report.model_validate(read_json(path)), files)
        except ValidationError as exc:
            raise FormatError(f"{path}: is malformed; --force starts over") from exc

    @property
    def finished(self) -> bool:
        """Whether the run in the folder came to its end."""
        return self.report is not None and self.report.finished

    @property
    def uri(self) -> str | None:
        """Where the run's video lies, by its whole path; None where nothing tells."""
        if self.checkpoint:
            return str(self.checkpoint.made.source["uri"])
        if self.report is None:
            return None
        file = self.report.input.file or {}
        return str(file.get("uri") or self.report.source)

    @property
    def source(self) -> Fingerprint | None:
        """What tells the run's video from another; None where nothing tells."""
        if self.checkpoint:
            return self.checkpoint.made.source
        return self.report.input.file if self.report else None

    def config(self) -> RunConfig | None:
        """Return the settings of the run; None where it has not begun. Raises ConfigError."""
        path = self.folder / "run.toml"
        return load_config(path) if path.is_file() else None


def to_report(
    uri: str,
    file: Fingerprint,
    read: SourceReport,
    detector: DetectorInfo,
    stats: RunStats,
    error: BaseException | None,
    notes: Sequence[str],
    *,
    remarks: Sequence[str] = (),
    running: bool = False,
) -> Report:
    """Return the content of report.json; `file` is the fingerprint of the source."""
    finished = error is None and not stats.stopped and not running
    figures = asdict(read) | {"notes": [redact(note) for note in read.notes]}
    stages = {
        name: StageReport(seconds=round(stage.seconds, 3), fps=round(stage.fps, 2))
        for name, stage in stats.stages.items()
    }
    return Report(
        source=redact(uri),
        finished=finished,
        stopped=stats.stopped,
        error=explain(error) if error else None,
        traceback=trace(error) if error else None,
        frames=stats.frames,
        input=InputReport(
            file=file,
            complete=read.complete and finished,
            unprocessed=read.frames - read.dropped - stats.frames,
            remarks=list(remarks),
            **figures,
        ),
        detector=DetectorReport(
            device=detector.device,
            precision=detector.precision,
            threads=detector.threads,
            batch_size=detector.batch_size,
            notes=list(detector.notes),
        ),
        output=OutputReport(notes=[redact(note) for note in notes]),
        speed=SpeedReport(
            wall_s=round(stats.wall_s, 3),
            fps=round(stats.frames / stats.wall_s, 3) if stats.wall_s else 0.0,
            stages=stages,
        ),
    )


def run_toml(uri: str, config: RunConfig, detector: DetectorInfo, started: datetime) -> str:
    """Return the resolved settings with what else made the result: loads as a config again."""
    about = {
        "source": redact(uri),
        "started": started.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": detector.device,
        "precision": detector.precision,
        "threads": detector.threads,
        "batch_size": detector.batch_size,
        "weights": detector.weights or detector.name,
        "weights_sha256": detector.sha256 or "",
        "packages": {name: version_of(name) for name in _REPORTED_PACKAGES},
    }
    settings = config.model_dump(mode="json", exclude_none=True)
    header = "".join(f"# {line}\n" for line in tomli_w.dumps(about).splitlines())
    return (
        f"# A run of Tracker; use it again with: tracker run VIDEO --config run.toml\n{header}\n"
        + (tomli_w.dumps(settings))
    )
