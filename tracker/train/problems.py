"""What can be wrong with labelled pictures: each kind has a remedy, each problem a file and id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal[
    "picture missing", "picture name", "picture unreadable", "picture size", "picture turned",
    "picture entry", "picture twice", "split", "annotation", "id", "category", "category name",
    "category lost", "no examples", "file", "smoothed", "folders",
    "segmentation", "box only", "part", "outline", "shares", "crowd", "label picture", "unlabelled",
]  # fmt: skip

REMEDIES: dict[Kind, str] = {
    "picture missing": "put the pictures where the labels say, or name their folder with "
    "--set pictures=FOLDER",
    "picture name": "nothing, if it is the right picture; else rename one of them",
    "picture unreadable": "save it anew, as JPEG or PNG",
    "picture size": "give the pictures that the labels were drawn on, or export the labels anew",
    "picture turned": "turn the picture itself (`mogrify -auto-orient`) and label it upright",
    "picture entry": "give every entry of `images` an id of its own, and a file_name",
    "picture twice": "nothing, if all labels are meant; else delete one of the entries",
    "split": "name a folder or file `train` or `val` to use it so, or give it by itself",
    "annotation": "export the labels anew, or delete the annotation",
    "id": "give every annotation the id of its picture, and an id of its own",
    "category": "give every category an id and a name, and every annotation one of these ids",
    "category name": "write the name one way",
    "category lost": "call it as the training does, or label it there too",
    "file": "mend or export it anew, or take it out of the folder",
    "smoothed": "save the masks without smoothing, as PNG, if their edges matter",
    "folders": "nothing, if they are classes; else put all label pictures into one folder",
    "no examples": "label some, or leave the category out with --classes",
    "segmentation": "draw it anew, or export polygons [[x, y, x, y, ...]] in px or COCO's RLE",
    "box only": "draw masks or polygons: a box does not say which pixels belong to the object "
    "(SAM in CVAT, Label Studio or Roboflow makes masks of boxes)",
    "part": "delete the part in the tool that drew it",
    "outline": "look at the object in the tool that drew it",
    "shares": "nothing, if the masks in predictions.png lie right",
    "crowd": "set iscrowd to 0 where one object is meant",
    "label picture": "one PNG a picture, 0 where there is nothing, then the number of each object",
    "unlabelled": "label it, or take it out of the folder",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one item of a data set."""

    file: str
    id: str  # of the picture or the object; empty for the whole file
    text: str
    fatal: bool = True  # the item cannot be used; else it only looks like a mistake
    kind: Kind = "annotation"

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.file}{f' [{self.id}]' if self.id else ''}: {self.text}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self.kind]


@dataclass(slots=True)
class Findings:
    """The problems of one label file, as they are found."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, kind: Kind, id_: object, text: str) -> None:
        """Note an item that cannot be used."""
        self.problems.append(Problem(self.file, str(id_), text, True, kind))

    def note(self, kind: Kind, id_: object, text: str) -> None:
        """Note what is used, but looks like a mistake or was read otherwise than it is written."""
        self.problems.append(Problem(self.file, str(id_), text, False, kind))


def grouped(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Return the problems of each kind together, those that cannot be used first."""
    groups: dict[tuple[bool, Kind], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((not problem.fatal, problem.kind), []).append(problem)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


def listing(group: Sequence[Problem], most: int) -> list[str]:
    """Return lines about problems of one kind: `most` in full, of the rest what they are about."""
    lines = [str(problem) for problem in group[:most]]
    rest = group[most:]
    if rest:
        about = ", ".join(problem.id or Path(problem.file).name for problem in rest)
        lines.append(f"and {len(rest)} more: {about}")
    return lines
