"""Train on the same labelled pictures with `tracker train` and with torchvision's own recipe.

    python tests/bench/training.py BACKBONE.pth --minutes 10

Data: the scripted scenes of demos/scene.py with exact masks; frames from halfway between those that
are trained on validate, and other scenes of the crowd. Both start from the same ImageNet weights
of the same model and get the same time, one after the other in this process. torchvision's recipe
is that of references/detection/train.py: SGD 0.02 for 16 pictures a step (linearly less for
fewer), momentum 0.9, weight decay 1e-4, warm-up of 1000 steps (here at most a tenth), the rate
divided by ten at 8/13 and 11/13 of the steps, horizontal flips only, whole pictures, no averaged
weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.ops import masks_to_boxes

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "demos")]

import embedded
import scene

from tracker.config import DetectorConfig
from tracker.detect.hardware import available_cores
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.detect.models.builders import LoadedModel, set_limits
from tracker.detect.models.mobile import NAME
from tracker.train import session
from tracker.train.build import build_model
from tracker.train.loop import Hooks
from tracker.train.samples import read_picture
from tracker.train.score import find_all, score
from tracker.train.settings import TrainConfig, build

NAMES = ("person", "car", "dog")
STEP = 8  # frames between two that are trained on


def shots(first: int) -> list[tuple[scene.Scene, Sequence[int]]]:
    """Return every STEP-th frame from `first` on of the scenes; crowds differ with `first`."""
    crowds = [scene.crowd(8, 3.0, seed=seed + first) for seed in range(3)]
    one = [scene.street(), scene.crossing(), scene.occlusion(), scene.leave_and_return(), *crowds]
    return [(each, range(first, len(each.times), STEP)) for each in one]


def theirs(config: TrainConfig, minutes: float, steps: int) -> tuple[float, float, int]:
    """Run torchvision's recipe for so long; return box mAP, mask mAP and steps done."""
    torch.set_num_threads(available_cores())
    data = session.prepare(config)
    made = build_model(config.model_copy(update={"frozen": 0.0}), data.train.categories)
    model, size = made.module, config.batch_size
    rate = 0.02 * size / 16
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=1e-4)
    drops = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps * 8 // 13, steps * 11 // 13])
    warm = min(1000, steps // 10)
    model.train()
    for norm in made.norms:
        norm.eval()  # frozen, as in torchvision's models that start from ImageNet
        norm.requires_grad_(False)
    began, done = time.monotonic(), 0
    while time.monotonic() - began < 60 * minutes and done < steps:
        for rows in torch.randperm(len(data.train.samples)).split(size):
            images, targets = [], []
            for row in rows.tolist():
                sample = data.train.samples[row]
                image = torch.from_numpy(read_picture(sample)).permute(2, 0, 1).float() / 255
                masks = torch.zeros(len(sample.instances), sample.height, sample.width)
                for plane, one in zip(masks, sample.instances, strict=True):
                    x1, y1, x2, y2 = one.mask.box
                    plane[y1:y2, x1:x2] = torch.from_numpy(one.mask.bits.copy())
                if torch.rand(()) < 0.5:
                    image, masks = image.flip(-1), masks.flip(-1)
                labels = torch.tensor([one.label for one in sample.instances], dtype=torch.int64)
                boxes = masks_to_boxes(masks) if len(masks) else torch.zeros(0, 4)
                boxes[:, 2:] += 1
                images.append(image)
                targets.append({"boxes": boxes, "labels": labels, "masks": masks.byte()})
            if done < warm:
                for group in optimizer.param_groups:
                    group["lr"] = rate * max(0.001, done / warm)
            loss = sum(model(images, targets).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done >= warm:
                drops.step()
            if time.monotonic() - began >= 60 * minutes or done >= steps:
                break
    seconds = time.monotonic() - began
    model.eval()

    def load(settings: DetectorConfig) -> LoadedModel:
        set_limits(model, settings)
        return LoadedModel(model, data.train.categories, NAME, "", None)

    detector = MaskRCNNDetector(
        DetectorConfig(score_threshold=0.05, precision="float32", device="cpu"), load=load
    )
    results, _ = find_all(detector, data.val, range(len(data.val.samples)))
    found = score(data.val, results)
    print(f"torchvision's recipe: {done} steps in {seconds:.0f} s", flush=True)
    return found.box, found.mask, done


def main() -> None:
    """Render the data, train twice, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("backbone", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--set", action="append", default=[], help="a setting of ours, name=JSON")
    parser.add_argument("--ours", action="store_true", help="ours only")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/bench-training"))
    options = parser.parse_args()
    train = embedded.render(options.output / "train", shots(0), NAMES)
    val = embedded.render(options.output / "val", shots(STEP // 2), NAMES)
    given = {
        "data": [str(train)],
        "val": [str(val)],
        "model": NAME,
        "weights": "none",
        "backbone": str(options.backbone),
        "epochs": options.epochs,
        "patience": 0,
        "device": "cpu",
    }
    extra = (text.partition("=") for text in options.set)
    config = build(given | {name: json.loads(value) for name, _, value in extra})
    limit = time.monotonic() + 60 * options.minutes

    def tell(epoch: object) -> None:
        print(json.dumps(epoch.to_json()), flush=True)

    ours = session.train(
        config,
        options.output / "ours",
        replace_old=True,
        hooks=Hooks(on_epoch=tell, should_stop=lambda: time.monotonic() > limit),
    )
    rows = [("tracker train", ours.best.scores.box, ours.best.scores.mask, ours.steps)]
    print(f"tracker train: {ours.seconds:.0f} s, all validations included", flush=True)
    if not options.ours:
        steps = ours.steps
        rows.append(("torchvision's recipe", *theirs(config, ours.seconds / 60, steps)))
    print(f"{'recipe':<22}{'box mAP':>8}{'mask mAP':>9}{'steps':>7}")
    for name, box, mask, done in rows:
        print(f"{name:<22}{100 * box:8.1f}{100 * mask:9.1f}{done:7d}")


if __name__ == "__main__":
    main()
