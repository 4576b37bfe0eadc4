"""Make the model that ships in the package: label clips by a teacher, train, and write it.

    python demos/embedded.py CLIPS --teacher maskrcnn2go.py:load_model -o runs/embedded

CLIPS is a folder of the clips named in `CLIPS` below. The teacher looks at every frame several
times; what its tracks agree on becomes a label, what they do not becomes a crowd, which training
does not judge. Scripted scenes join them. The result is tracker/detect/embedded.safetensors.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scene
import torch

from tracker.boxes import box_iou
from tracker.config import DetectorConfig, load_config
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.detect.models.mobile import NAME
from tracker.detect.models.weights import EMBEDDED, read_weights, save_model
from tracker.masks import Mask, mask_to_rle
from tracker.runs.labels import Selection, export_labels
from tracker.runs.run import run_to_folder
from tracker.train.loop import Hooks
from tracker.train.session import TrainingResult, train
from tracker.train.settings import TrainConfig
from tracker.types import Detections, Frame
from tracker.video.still import write_picture

# Clip -> every so many frames are tracked, every so many of these labelled, and how often each is
# shown in an epoch: 0 = held back to validate by.
CLIPS = {
    "jagin_people": (3, 1, 1),
    "jagin_shopping_mall": (3, 1, 1),
    "jagin_traffic": (3, 1, 1),
    "jagin_walkway": (3, 3, 1),
    "mmtracking_demo": (1, 1, 8),  # 8 frames in all, but of many people
    "strudl_vid0": (2, 1, 1),
    "strudl_vid1": (2, 1, 1),
    "jagin_walk": (3, 3, 0),
    "strudl_vid2": (2, 1, 0),
}
SOURCES = {
    "jagin_*": "github.com/jagin/detectron2-pipeline, MIT; clips from Pixabay",
    "strudl_*": "github.com/ahrnbom/strudl, MIT; a traffic camera",
    "mmtracking_demo": "github.com/open-mmlab/mmtracking, Apache-2.0",
    "scenes": "demos/scene.py of this repository, Apache-2.0",
    "teacher": "MaskRCNN2Go, github.com/facebookarchive/models, Apache-2.0 (COCO 2014)",
    "backbone": "torchvision's mobilenet_v3_small IMAGENET1K_V1, BSD-3-Clause",
}
# What the teacher calls it -> what the model learns; all else is a crowd: too few examples.
CATEGORIES = {"person": "person", "car": "vehicle", "bus": "vehicle", "truck": "vehicle"}
NAMES = ("person", "vehicle")
BACKBONE = ("yiku-seg==0.1.5a4", "yiku/assets/mobilenet_v3_small.pth", "047dcff4")
SIZES, MIRRORED = (448, 608, 800), (608,)  # px, of the teacher's looks
# Nearly all detections become tracks; which are good enough is decided when they are exported.
LABELLING = [
    "output.video=false", "output.refine=true", "tracker.weak_score=0.15",
    "tracker.confident_score=0.35", "tracker.new_score=0.35", "tracker.confirm_score=0.3",
    "tracker.confirm_hits=2", "tracker.confirm_share=0.0", "refine.min_hits=2",
    "refine.min_score=0.3", "refine.min_share=0.0",
]  # fmt: skip
TRAINING: dict[str, Any] = {
    "crop": 384,
    "lr": 1e-3,
    "color": 0.8,
    "paste": 0.4,
    "distract": 0.5,
    "patience": 0,
}
SCENES = 40  # random scripted streets, four frames of each
LIMITS = (
    "Learned from seven short clips and scripted scenes, so it knows few places, cameras and "
    "kinds of light. People seen whole from eye level or from above at 20 to 400 px, and cars on "
    "roads, are found best. Expect misses of people in groups, of parts of people, of cars from "
    "the side or far off, of trucks and buses (few examples), in close-ups and shallow focus, at "
    "night, from straight above, and of anything smaller than 16 px. Bicycles and motorcycles "
    "are not known. It is no replacement for a COCO model where one can be had."
)

CARD = {
    "name": "embedded",
    "licence": "Apache-2.0",
    "labels": "by the teacher at several sizes, cleaned by tracks; nobody drew or checked them",
    "held_back_note": "strudl_vid2 is seen by the camera of vid0 and vid1; jagin_walk is new",
    "sources": SOURCES,
    "limits": LIMITS,
}


class Looks:
    """A detector that looks at each frame at several sizes, mirrored too, and merges the answers.

    What only some looks find keeps only their share of its score.
    """

    def __init__(
        self, config: DetectorConfig, sizes: Sequence[int], mirrored: Sequence[int]
    ) -> None:
        def at(size: int) -> MaskRCNNDetector:
            sizes = {"min_size": size, "max_size": 2 * size}
            return MaskRCNNDetector(config.model_copy(update=sizes))

        self._detectors = [(at(size), False) for size in sizes]
        self._detectors += [(at(size), True) for size in mirrored]
        self.categories = self._detectors[0][0].categories

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return one Detections per frame."""
        return [merge([self._look(frame, *look) for look in self._detectors]) for frame in frames]

    def _look(self, frame: Frame, detector: MaskRCNNDetector, mirror: bool) -> Detections:
        if not mirror:
            return detector.detect([frame])[0]
        image = np.ascontiguousarray(frame.image[:, ::-1])
        found = detector.detect([Frame(frame.index, frame.time, image)])[0]
        boxes = found.boxes.copy()
        boxes[:, [0, 2]] = frame.width - boxes[:, [2, 0]]
        masks = tuple(
            mask and Mask(frame.width - mask.box[2], mask.y, mask.bits[:, ::-1].copy())
            for mask in found.masks
        )
        return Detections(boxes, found.scores, found.labels, masks)


def merge(looks: Sequence[Detections], min_iou: float = 0.55) -> Detections:
    """Join what several looks found of one object: boxes averaged, masks voted by score."""
    places = [(k, row) for k, look in enumerate(looks) for row in range(len(look))]
    places.sort(key=lambda place: -float(looks[place[0]].scores[place[1]]))
    groups: list[list[tuple[int, int]]] = []
    for k, row in places:
        near = [
            float(box_iou(looks[k].boxes[row][None], looks[j].boxes[first][None])[0, 0])
            if looks[j].labels[first] == looks[k].labels[row] and all(k != m for m, _ in group)
            else 0.0
            for group in groups
            for j, first in group[:1]
        ]
        best = int(np.argmax(near)) if near else -1
        if near and near[best] > min_iou:
            groups[best].append((k, row))
        else:
            groups.append([(k, row)])
    rows = []
    for group in groups:
        scores = np.array([looks[k].scores[row] for k, row in group])
        boxes = np.array([looks[k].boxes[row] for k, row in group])
        mask = _vote([looks[k].masks[row] for k, row in group], scores)
        if mask.area:
            box = (boxes * scores[:, None]).sum(0) / scores.sum()
            label = int(looks[group[0][0]].labels[group[0][1]])
            rows.append((float(scores.sum()) / len(looks), box, label, mask))
    return scene.as_detections(rows)


def _vote(masks: Sequence[Mask | None], scores: npt.NDArray[np.float32]) -> Mask:
    there = [(mask, score) for mask, score in zip(masks, scores, strict=True) if mask is not None]
    boxes = np.array([mask.box for mask, _ in there])
    (x1, y1), (x2, y2) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    votes = np.zeros((y2 - y1, x2 - x1))
    for mask, score in there:
        height, width = mask.bits.shape
        votes[mask.y - y1 :, mask.x - x1 :][:height, :width] += mask.bits * score
    return Mask(int(x1), int(y1), votes >= sum(score for _, score in there) / 2).tight()


# ---- data -----------------------------------------------------------------------------------


def label(clip: Path, stride: int, every: int, looks: Callable[[], Looks], output: Path) -> Path:
    """Track a clip with the teacher, if that is not done, and write its labels as COCO."""
    config = load_config(None, [*LABELLING, f"source.stride={stride}"])
    run = output / "runs" / clip.stem
    if not (run / "tracks-refined.jsonl").is_file():
        run_to_folder(str(clip), config, run, get_detector=looks, replace=True)
    chosen = Selection(every=every, min_score=0.5, min_length_s=0.3, still_score=0.8, unsure=True)
    path = export_labels(run, output / "data" / clip.stem, chosen).path
    content = json.loads(path.read_text())
    names = {item["id"]: item["name"] for item in content["categories"]}
    for item in content["annotations"]:
        learned = CATEGORIES.get(names[item["category_id"]])
        item["category_id"] = NAMES.index(learned) + 1 if learned else 0  # of any category
        item["iscrowd"] = int(item["iscrowd"] or learned is None)
    content["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    path.write_text(json.dumps(content))
    return path


def render(
    output: Path, shots: Iterable[tuple[scene.Scene, Sequence[int]]], names: Sequence[str] = NAMES
) -> Path:
    """Draw frames of scripted scenes and write their truth as labels; return the COCO file.

    What has none of the `names`, under its own or the learned one, becomes a crowd.
    """
    folder = output / "data" / "scenes"
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, (one, indices) in enumerate(shots):
        for index in indices:
            name = f"frames/{number:03d}-{index:04d}.jpg"
            picture = one.image(index)
            write_picture(folder / name, picture)
            height, width = picture.shape[:2]
            images.append(
                {"id": len(images) + 1, "file_name": name, "width": width, "height": height}
            )
            truth = one.truth(index)
            for row, mask in enumerate(truth.masks):
                own = scene.CATEGORIES[truth.labels[row]]
                known = own if own in names else CATEGORIES.get(own)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": names.index(known) + 1 if known else 0,
                        "iscrowd": int(known is None),
                        "segmentation": mask and mask_to_rle(mask, width, height),
                    }
                )
    path = folder / "labels.json"
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def fetch_backbone(output: Path) -> Path:
    """Take the ImageNet weights out of the wheel that carries them; check their hash."""
    package, member, digest = BACKBONE
    path = output / Path(member).name
    if not path.is_file():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", package]
        subprocess.run([*command, "--dest", str(output)], check=True)
        (wheel,) = output.glob("yiku_seg-*.whl")
        with zipfile.ZipFile(wheel) as file:
            path.write_bytes(file.read(member))
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
        raise SystemExit(f"{path}: is not the file that torchvision published")
    return path


# ---- the model ------------------------------------------------------------------------------


def learn(
    output: Path, data: Sequence[Path], held: Sequence[Path], config: TrainConfig, resume: bool
) -> TrainingResult:
    """Train on `data`; the model's card says what it was made of and where it fails."""
    names = {"data": tuple(map(str, data)), "val": tuple(map(str, held))}
    card = {
        "trained_on": list(dict.fromkeys(path.parent.name for path in data)),
        "held_back": [path.parent.name for path in held],
    }

    def tell(step: int, steps: int, losses: dict[str, float]) -> None:
        if step % 50 == 0:
            print(f"step {step}/{steps}, loss {sum(losses.values()):.3f}", flush=True)

    return train(
        config.model_copy(update=names),
        output / "train",
        resume=resume,
        replace_old=True,
        skip_problems=True,
        card=card,
        hooks=Hooks(on_step=tell, on_epoch=lambda epoch: print(epoch.to_json(), flush=True)),
    )


def ship(best: Path, target: Path = EMBEDDED) -> None:
    """Write a trained model in half precision to where the package looks for it."""
    file = read_weights(best)
    if file.info is None:
        raise SystemExit(f"{best}: is no model of `tracker train`")
    card = {**file.info.card, **CARD, "precision": "float16"}
    info = dataclasses.replace(file.info, card=card)
    save_model(target, file.tensors, info, dtype=torch.float16)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--teacher", required=True, help="file.py:function of a COCO Mask R-CNN")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--resume", action="store_true", help="go on with the training")
    parser.add_argument("--ship", type=Path, default=EMBEDDED, help="file of the result")
    options = parser.parse_args(arguments)
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    backbone = fetch_backbone(output)
    labels = {name: output / "data" / name / "labels.json" for name in CLIPS}
    if not all(path.is_file() for path in labels.values()):
        classes = json.dumps([*CATEGORIES, "bicycle", "motorcycle"])
        settings = [f"detector.model={options.teacher}", f"detector.classes={classes}"]
        detector = load_config(None, settings).detector
        looks = cache(lambda: Looks(detector, SIZES, MIRRORED))
        for name, (stride, every, _shown) in CLIPS.items():
            labels[name] = label(options.clips / f"{name}.mp4", stride, every, looks, output)
            print(labels[name], flush=True)
    streets = map(scene.random_street, range(SCENES))
    scenes = render(output, [(street, (0, 19, 39, 59)) for street in streets])
    config = TrainConfig(
        model=NAME,
        weights="none",
        backbone=str(backbone),
        epochs=options.epochs,
        device=options.device,
        **TRAINING,
    )
    learn(
        output,
        [*(path for name, path in labels.items() for _ in range(CLIPS[name][2])), scenes],
        [path for name, path in labels.items() if not CLIPS[name][2]],
        config,
        options.resume,
    )
    ship(output / "train" / "best.safetensors", options.ship)


if __name__ == "__main__":
    main()
