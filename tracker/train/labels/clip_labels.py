"""Read labelled clips with their frames: YouTube-VIS files, and MOTS folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tracker.errors import FormatError
from tracker.files import JsonObject
from tracker.formats import mots
from tracker.masks import mask_to_rle
from tracker.train.labels.coco_labels import Categories, read_categories, without_headings
from tracker.train.labels.drawn import Drawn, Page, read_size, to_samples
from tracker.train.labels.finder import PictureFinder, Where
from tracker.train.labels.label_images import from_planes, load_plane
from tracker.train.labels.label_json import read_label_json
from tracker.train.labels.values import ById, entries, is_id, listed, mark
from tracker.train.problems import Findings, Problem
from tracker.train.samples import BACKGROUND, Dataset, Instance, Sample
from tracker.types import LoggedFrame

_MOTS = {1: "car", 2: "person"}  # of KITTI MOTS and MOTS20: 2 is a pedestrian
_MOTS_IGNORED = 10


@dataclass(slots=True)
class _Clips:
    """The videos of a YouTube-VIS file by id, as a page a frame, and what is wrong with them."""

    categories: Categories
    findings: Findings
    pages: ById[list[Page]] = field(default_factory=ById)

    def add_video(self, video: Any) -> None:
        entry = video if isinstance(video, dict) else {}
        id_, names = entry.get("id"), entry.get("file_names")
        try:
            size = read_size(entry.get("width"), entry.get("height"))
        except ValueError:
            names = None
        if not is_id(id_) or not isinstance(names, list):
            text = f"a video needs an id, file_names, a width and a height: {video!r:.60}"
            self.findings.refuse("picture entry", "", text)
            return
        where = f"video {id_}"
        pages = [
            Page(str(name or ""), size, f"{where}, frame {k}", where)
            for k, name in enumerate(names)
        ]
        if not self.pages.add(id_, pages):
            self.findings.refuse("picture entry", where, "its id is given twice")

    def add_track(self, item: Any) -> None:
        segmentations = listed(item.get("segmentations") or []) if isinstance(item, dict) else None
        if segmentations is None or isinstance(item.get("id"), (dict, list)):
            self.findings.refuse("annotation", "", f"an annotation is malformed: {item!r:.60}")
            return
        name = f"annotation {item.get('id')}"
        pages = self.pages.get(item.get("video_id"))
        label = self.categories.labels.get(item.get("category_id"))
        if pages is None:
            self.findings.refuse("id", name, "its video_id is none of the videos")
            return
        if label is None:
            text = f"category_id {item.get('category_id')!r:.40} is none of the categories"
            self.findings.refuse("category", name, text)
        if len(segmentations) != len(pages):
            text = f"has {len(segmentations)} masks for {len(pages)} frames"
            self.findings.refuse("annotation", name, text)
        else:
            self._add_masks(item, label or 0, pages, segmentations)

    def _add_masks(
        self, item: JsonObject, label: int, pages: list[Page], segmentations: list[Any]
    ) -> None:
        crowd = bool(mark(item.get("iscrowd", 0)))
        boxes = item.get("bboxes")
        if not isinstance(boxes, list) or len(boxes) != len(pages):
            boxes = [None] * len(pages)
        for number, segmentation in enumerate(segmentations):
            if segmentation is not None:
                drawn = Drawn(
                    f"{item.get('id')}:{number}",
                    f"annotation {item.get('id')}, frame {number}",
                    label,
                    segmentation,
                    boxes[number],
                    crowd=crowd or not label,  # of whatever it is, it is no background
                    marked=crowd and label > 0,
                )
                pages[number].objects.append(drawn)


def is_youtube_vis(content: JsonObject) -> bool:
    """Tell whether a file is YouTube-VIS': it has videos, and no images as COCO-VID's."""
    images, annotations = content.get("images"), entries(content.get("annotations"))
    of_images = any(isinstance(item, dict) and "image_id" in item for item in annotations or [])
    return isinstance(content.get("videos"), list) and not (images and of_images)


def read_youtube_vis(
    path: Path, where: Where | None = None, content: JsonObject | None = None
) -> Dataset:
    """Read a YouTube-VIS file; every frame of a video is a picture, every video a group.

    `content` is what the file holds, where it has been read already. Raises FormatError where the
    file as a whole is none.
    """
    content = read_label_json(path) if content is None else content
    videos, annotations, items = (
        _list(path, content, key) for key in ("videos", "annotations", "categories")
    )
    findings = Findings(str(path))
    clips = _Clips(read_categories(without_headings(items, annotations), findings), findings)
    for video in videos:
        clips.add_video(video)
    for item in annotations:
        clips.add_track(item)
    pages = [page for video in clips.pages for page in video if page.file_name]
    samples = to_samples(pages, PictureFinder(path, where), findings)
    return Dataset(samples, (BACKGROUND, *clips.categories.names), tuple(findings.problems))


def _list(path: Path, content: JsonObject, key: str) -> list[Any]:
    found = entries(content.get(key) or [])
    if found is None or (key == "videos" and key not in content):
        raise FormatError(f"{path}: is no YouTube-VIS file: it has no list {key!r}")
    return found


def find_mots(root: Path) -> tuple[Path, Path] | None:
    """Return the folders of labels and of pictures of a MOTS set, if `root` is one."""
    labels = next(
        (root / name for name in ("instances", "instances_txt") if (root / name).is_dir()), None
    )
    for name in ("images", "image_02", "training/image_02"):
        if labels and (root / name).is_dir():
            clips = [p for p in labels.iterdir() if p.is_dir() or p.suffix == ".txt"]
            if any((root / name / clip.stem).is_dir() for clip in clips):
                return labels, root / name
    return None


def read_mots(root: Path) -> Dataset:
    """Read a MOTS set: instances/CLIP/*.png or instances_txt/CLIP.txt, and images/CLIP/*.

    Class 1 is a car, 2 a person, 10 a region that nobody labelled. Raises FormatError.
    """
    folders = find_mots(root)
    if folders is None:
        raise FormatError(f"{root}: holds no MOTS set (instances/ and images/)")
    labels, pictures = folders
    problems: list[Problem] = []
    if labels.name == "instances":
        return from_planes(
            _mots_planes(labels, pictures, problems), problems, _MOTS, "", _MOTS_IGNORED
        )
    return _of_clips([(path, pictures / path.stem) for path in sorted(labels.glob("*.txt"))])


def find_challenge(root: Path) -> list[Path]:
    """Return the clips of MOTSChallenge in a folder: those with gt/gt.txt and img1/, or itself."""
    places = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    return [
        place
        for place in places
        if (place / "gt" / "gt.txt").is_file() and (place / "img1").is_dir()
    ]


def read_challenge(clips: Sequence[Path]) -> Dataset:
    """Read clips of MOTSChallenge; raise FormatError, also where they have boxes alone."""
    return _of_clips([(clip / "gt" / "gt.txt", clip / "img1") for clip in clips])


def _of_clips(clips: Sequence[tuple[Path, Path]]) -> Dataset:
    """Return the data of text files of MOTS, each with its folder of pictures."""
    problems: list[Problem] = []
    samples: list[Sample] = []
    for path, pictures in clips:
        by_number = _numbered(pictures)
        clip = pictures.parent.name if pictures.name == "img1" else path.stem
        for frame in mots.read(path).frames:
            where = f"frame {frame.index}"
            if frame.index in by_number:
                samples.append(_of_frame(frame, by_number[frame.index], clip))
            else:
                problems.append(Problem(str(path), where, "has no picture", kind="picture missing"))
    return Dataset(tuple(samples), (BACKGROUND, *_MOTS.values()), tuple(problems))


def _of_frame(frame: LoggedFrame, picture: Path, clip: str) -> Sample:
    tracks = frame.tracks
    instances = tuple(
        Instance(
            f"{clip}:{frame.index}:{tracks.ids[k]}",
            int(tracks.labels[k]) if int(tracks.labels[k]) in _MOTS else 0,
            mask_to_rle(mask, frame.width, frame.height),
            crowd=int(tracks.labels[k]) not in _MOTS,
        )
        for k, mask in enumerate(tracks.masks)
        if mask is not None and mask.area
    )
    return Sample(picture, frame.width, frame.height, instances, clip)


def _mots_planes(
    labels: Path, pictures: Path, problems: list[Problem]
) -> Iterator[tuple[Path, Path, npt.NDArray[Any]]]:
    for clip in sorted(path for path in labels.iterdir() if path.is_dir()):
        by_number = _numbered(pictures / clip.name)
        for number, path in sorted(_numbered(clip).items()):
            if number not in by_number:
                problems.append(Problem(str(path), "", "has no picture", kind="picture missing"))
                continue
            plane = load_plane(path, problems)
            if plane is not None:
                yield by_number[number], path, plane


def _numbered(folder: Path) -> dict[int, Path]:
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    return {int(path.stem): path for path in found if path.stem.isdecimal()}
