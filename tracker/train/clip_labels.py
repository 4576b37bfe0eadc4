"""Read labelled clips with their frames: YouTube-VIS files, and MOTS folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tracker.errors import FormatError
from tracker.files import JsonObject, read_json
from tracker.formats import mots
from tracker.masks import mask_to_rle
from tracker.train.coco_labels import PictureFinder, read_categories, to_rle
from tracker.train.label_images import from_planes, load_plane
from tracker.train.samples import BACKGROUND, Dataset, Instance, Problem, Sample

_MOTS = {1: "car", 2: "person"}  # of KITTI MOTS and MOTS20: 2 is a pedestrian
_MOTS_IGNORED = 10


@dataclass(slots=True)
class _Clips:
    """The videos of a YouTube-VIS file, their objects by frame, and what is wrong with them."""

    path: Path
    labels: dict[Any, int] = field(default_factory=dict)  # category id -> label
    videos: dict[Any, JsonObject] = field(default_factory=dict)
    frames: dict[Any, list[list[Instance]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def tell(self, id_: object, text: str, *, fatal: bool = True) -> None:
        self.problems.append(Problem(str(self.path), str(id_), text, fatal))

    def add_video(self, video: JsonObject) -> None:
        try:
            count = len(video["file_names"])
            if video["id"] in self.videos:
                self.tell(f"video {video['id']}", "its id is given twice")
                return
            if int(video["width"]) < 1 or int(video["height"]) < 1:
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError):
            self.tell("", f"a video needs an id, file_names, a width and a height: {video!r:.60}")
            return
        self.videos[video["id"]] = video
        self.frames[video["id"]] = [[] for _ in range(count)]

    def add_track(self, item: JsonObject) -> None:
        try:
            name = f"annotation {item['id']}"
            video = self.videos.get(item["video_id"])
            places = self.frames.get(item["video_id"], [])
            label = self.labels.get(item["category_id"])
            segmentations = list(item.get("segmentations") or [])
        except (AttributeError, KeyError, TypeError):
            self.tell("", f"an annotation is malformed: {item!r:.60}")
            return
        if video is None:
            self.tell(name, "its video_id is none of the videos")
        elif label is None:
            self.tell(name, f"category_id {item['category_id']!r} is none of the categories")
        elif len(segmentations) != len(places):
            self.tell(name, f"has {len(segmentations)} masks for {len(places)} frames")
        else:
            self._add_masks(item, label, video, segmentations)

    def _add_masks(
        self, item: JsonObject, label: int, video: JsonObject, segmentations: list[Any]
    ) -> None:
        crowd, places = bool(item.get("iscrowd", 0)), self.frames[item["video_id"]]
        for number, segmentation in enumerate(segmentations):
            if segmentation is None:
                continue
            rle, faults, fatal = to_rle(segmentation, int(video["width"]), int(video["height"]))
            for fault in faults:
                self.tell(f"annotation {item['id']}, frame {number}", fault, fatal=fatal)
            if rle is not None:
                places[number].append(Instance(f"{item['id']}:{number}", label, rle, crowd))


def read_youtube_vis(
    path: Path, pictures: Path | None = None, content: JsonObject | None = None
) -> Dataset:
    """Read a YouTube-VIS file; every frame of a video is a picture, every video a group.

    `content` is what the file holds, where it has been read already. Raises FormatError where the
    file as a whole is none.
    """
    content = read_json(path) if content is None else content
    if not isinstance(content.get("videos"), list):
        raise FormatError(f"{path}: is no YouTube-VIS file: it has no list 'videos'")
    clips = _Clips(path)
    clips.labels, names = read_categories(content.get("categories") or [], clips.tell)
    for video in content["videos"]:
        clips.add_video(video)
    annotations = content.get("annotations") or []
    if not isinstance(annotations, list):
        raise FormatError(f"{path}: is no YouTube-VIS file: its annotations are no list")
    for item in annotations:
        clips.add_track(item)
    finder = PictureFinder(path, pictures)
    samples = tuple(
        Sample(
            finder.find(str(file_name)),
            int(video["width"]),
            int(video["height"]),
            tuple(clips.frames[id_][number]),
            f"video {id_}",
        )
        for id_, video in clips.videos.items()
        for number, file_name in enumerate(video["file_names"])
        if file_name
    )
    return Dataset(samples, (BACKGROUND, *names), tuple(clips.problems))


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
    samples = []
    for path in sorted(labels.glob("*.txt")):
        by_number = _numbered(pictures / path.stem)
        for frame in mots.read(path).frames:
            if frame.index not in by_number:
                problems.append(Problem(str(path), f"frame {frame.index}", "has no picture"))
                continue
            tracks = frame.tracks
            instances = [
                Instance(
                    f"{path.stem}:{frame.index}:{tracks.ids[k]}",
                    int(tracks.labels[k]) if int(tracks.labels[k]) in _MOTS else 0,
                    mask_to_rle(mask, frame.width, frame.height),
                    crowd=int(tracks.labels[k]) not in _MOTS,
                )
                for k, mask in enumerate(tracks.masks)
                if mask is not None and mask.area
            ]
            samples.append(
                Sample(
                    by_number[frame.index], frame.width, frame.height, tuple(instances), path.stem
                )
            )
    return Dataset(tuple(samples), (BACKGROUND, *_MOTS.values()), tuple(problems))


def _mots_planes(
    labels: Path, pictures: Path, problems: list[Problem]
) -> Iterator[tuple[Path, Path, npt.NDArray[Any]]]:
    for clip in sorted(path for path in labels.iterdir() if path.is_dir()):
        by_number = _numbered(pictures / clip.name)
        for number, path in sorted(_numbered(clip).items()):
            if number not in by_number:
                problems.append(Problem(str(path), "", "has no picture"))
                continue
            plane = load_plane(path, problems)
            if plane is not None:
                yield by_number[number], path, plane


def _numbered(folder: Path) -> dict[int, Path]:
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    return {int(path.stem): path for path in found if path.stem.isdecimal()}
