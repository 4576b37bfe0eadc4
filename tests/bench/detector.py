"""Time the detector beside torchvision's own loop, and say where the time goes and what agrees.

    python tests/bench/detector.py VIDEO --model random_models.py:resnet50_fpn --size 1280x720
    python tests/bench/detector.py VIDEO --model .../maskrcnn2go.py:load_model --min-size 600

Everything is timed in turns in one process, so that what else the machine does hits all alike;
ratios are to the median of torchvision's eager float32 loop, with the least and largest of the
turns. The reference runs with malloc as a user's program has it. OpenVINO and ONNX Runtime run the
backbone where they are installed. On a GPU the same, with device timers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from tracker.config import DetectorConfig, SourceConfig
from tracker.detect.fast.network import FastRCNN
from tracker.detect.hardware import keep_freed_memory
from tracker.detect.maskrcnn import MaskRCNNDetector
from tracker.detect.paste import paste_masks
from tracker.detect.reference import ReferenceDetector
from tracker.measure.agreement import agreement
from tracker.types import Frame
from tracker.video.source import open_source

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("video")
    parser.add_argument("--model", required=True)
    parser.add_argument("--min-size", type=int)
    parser.add_argument("--max-size", type=int)
    parser.add_argument("--size", help="resize the frames to WxH first")
    parser.add_argument("--frames", type=int, default=4, help="different frames, spread out")
    parser.add_argument("--stride", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="*", default=[1], help="also with a GPU: 1 4 8")
    args = parser.parse_args()
    model = args.model if Path(args.model.partition(":")[0]).exists() else str(HERE / args.model)
    frames = read(args)
    print(f"{args.video.rpartition('/')[2]}, {frames[0].width}x{frames[0].height}, {model}")
    sizes = dict(min_size=args.min_size, max_size=args.max_size)
    configs = {
        "float32": DetectorConfig(model=model, **sizes, precision="float32"),
        "auto": DetectorConfig(model=model, **sizes),
    }
    keep_freed_memory(False)
    reference = ReferenceDetector(configs["float32"])
    expected = reference.detect(frames)
    print(f"{sum(len(d) for d in expected) / len(frames):.0f} instances a frame")
    ours = {name: MaskRCNNDetector(config) for name, config in configs.items()}
    print("auto is", str(ours["auto"].precision).removeprefix("torch."))
    turns = [("torchvision eager float32", False, lambda f: reference.detect([f]))]
    turns += [(f"ours {name}", True, lambda f, d=d: d.detect([f])) for name, d in ours.items()]
    seconds = in_turns(turns, frames, args.rounds)
    table(seconds, "torchvision eager float32")
    for name, detector in ours.items():
        found = agreement(detector.detect(frames), expected)
        print(
            f"{name}: {found.total} instances of score 0.5 or more, {found.share:.2%} matched "
            f"({found.extra} extra), {found.share_within(0.99, 0.001):.2%} with IoU 0.99 and score "
            f"within 0.001; mean mask IoU {found.overlap:.4f}, scores off by "
            f"{np.mean(found.score_errors or [0]):.4f} on average"
        )
    for size in args.batch[1:]:
        batches(ours["auto"], frames[0], size)
    reference_parts(reference, frames)
    for name, detector in ours.items():
        parts(name, detector, frames)
    backbones(configs["float32"], ours, frames[0], args.rounds)
    post_processing()


def read(args: argparse.Namespace) -> list[Frame]:
    source = open_source(args.video, SourceConfig(stride=args.stride))
    frames = list(islice(source, args.frames))
    source.close()
    if args.size:
        width, height = map(int, args.size.split("x"))
        frames = [
            Frame(
                f.index, f.time, cv2.resize(f.image, (width, height), interpolation=cv2.INTER_AREA)
            )
            for f in frames
        ]
    return frames


def in_turns(turns, frames, rounds) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name, *_ in turns}
    for k in range(rounds + 1):
        for name, keep, call in turns:
            keep_freed_memory(keep)
            began = time.perf_counter()
            call(frames[k % len(frames)])
            if k:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    keep_freed_memory(True)
    return seconds


def table(seconds: dict[str, list[float]], base: str) -> None:
    whole = statistics.median(seconds[base])
    for name, values in seconds.items():
        ratios = sorted(b / v for b, v in zip(seconds[base], values, strict=True))
        print(
            f"  {name:30} {statistics.median(values):7.3f} s a frame"
            f"   {whole / statistics.median(values):5.2f} times"
            f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def batches(detector: MaskRCNNDetector, frame: Frame, size: int) -> None:
    detector.batch_size = size
    detector.detect([frame] * size)
    began = time.perf_counter()
    for _ in range(4):
        detector.detect([frame] * size)
    print(f"  batch {size}: {4 * size / (time.perf_counter() - began):.1f} fps")


def reference_parts(reference: ReferenceDetector, frames: list[Frame]) -> None:
    """Print how long each part of torchvision's own forward takes."""
    module = reference._module
    heads = module.roi_heads
    places = {
        "backbone and pyramid": module.backbone,
        "RPN head": module.rpn.head,
        "RPN in all": module.rpn,
        "box RoIAlign": heads.box_roi_pool,
        "box head": heads.box_head,
        "box predictor": heads.box_predictor,
        "mask RoIAlign": heads.mask_roi_pool,
        "mask head": heads.mask_head,
        "mask predictor": heads.mask_predictor,
    }
    began: dict[str, float] = {}
    spent: dict[str, float] = {}

    def start(label):
        return lambda *_: began.__setitem__(label, time.perf_counter())

    def stop(label):
        return lambda *_: spent.__setitem__(
            label, spent.get(label, 0.0) + time.perf_counter() - began[label]
        )

    hooks = []
    for label, part in places.items():
        hooks += [
            part.register_forward_pre_hook(start(label)),
            part.register_forward_hook(stop(label)),
        ]
    keep_freed_memory(False)
    reference.detect(frames)
    spent.clear()
    first = time.perf_counter()
    reference.detect(frames)
    whole = time.perf_counter() - first
    keep_freed_memory(True)
    for hook in hooks:
        hook.remove()
    spent["RPN: top-k, decode, NMS"] = spent.pop("RPN in all") - spent["RPN head"]
    spent["resize, decode, NMS, paste, crop"] = whole - sum(spent.values())
    print(f"  parts, torchvision: {whole / len(frames):.4f} s a frame")
    for label, value in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"    {label:34} {value / len(frames):8.4f} s  {value / whole:6.1%}")


def parts(name: str, detector: MaskRCNNDetector, frames: list[Frame]) -> None:
    """Print how long each part of a frame takes."""
    fast = detector._fast
    if fast is None:
        return
    spent: dict[str, float] = {}
    depth: list[str] = []

    def timed(owner, attribute, label):
        inner = getattr(owner, attribute)

        def call(*args, **kwargs):
            synchronize(detector)
            began = time.perf_counter()
            depth.append(label)
            result = inner(*args, **kwargs)
            synchronize(detector)
            depth.pop()
            took = time.perf_counter() - began
            spent[label] = spent.get(label, 0.0) + took
            if depth:  # what is inside another part is that part's no more
                spent[depth[-1]] = spent.get(depth[-1], 0.0) - took
            return result

        if isinstance(owner, FastRCNN):
            owner.__dict__[attribute] = call
        else:
            setattr(owner, attribute, call)
        return inner

    layers = fast._parts
    names = {
        "backbone": "backbone and pyramid", "rpn_head": "RPN head", "box_head": "box head",
        "box_predictor": "box predictor", "mask_head": "mask head",
        "deconvolution": "mask deconvolution",
    }  # fmt: skip
    undo = [(layers, a, timed(layers, a, l)) for a, l in names.items() if getattr(layers, a)]
    for attribute, label in {
        "_lay_out": "resize, normalise, pad", "_propose": "proposals: top-k, decode, NMS",
        "_classify": "detections: softmax, decode, NMS", "_pool": "RoIAlign",
        "_map": "mask logits",
    }.items():  # fmt: skip
        undo.append((fast, attribute, timed(fast, attribute, label)))
    undo.append((detector, "_finish", timed(detector, "_finish", "paste and check")))
    undo.append((detector, "_run", timed(detector, "_run", "rest")))
    detector.detect(frames)
    spent.clear()
    began = time.perf_counter()
    detector.detect(frames)
    whole = time.perf_counter() - began
    for owner, attribute, inner in undo:
        if owner is layers:
            setattr(owner, attribute, inner)
        else:
            del owner.__dict__[attribute]
    print(f"  parts, {name}: {whole / len(frames):.4f} s a frame")
    for label, value in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"    {label:34} {value / len(frames):8.4f} s  {value / whole:6.1%}")


def synchronize(detector: MaskRCNNDetector) -> None:
    if detector.device.type == "cuda":
        import torch

        torch.cuda.synchronize()


def backbones(config, ours, frame, rounds) -> None:
    """Time the backbone in other engines, if they are installed."""
    import torch

    fast = ours["float32"]._fast
    if fast is None or fast.device.type != "cpu":
        return
    with torch.inference_mode():
        pixels = fast._lay_out(torch.tensor(frame.image)[None]).pixels.clone()
    module = ReferenceDetector(config)._module.backbone

    class Levels(torch.nn.Module):
        def forward(self, x):
            features = module(x)
            return tuple(features.values()) if isinstance(features, dict) else features

    plain = pixels.contiguous()
    turns = [("torchvision backbone", False, lambda _: module(plain))]
    turns += [
        (f"ours {name}", True, lambda _, d=d: d._fast._parts.backbone(pixels))
        for name, d in ours.items()
    ]
    try:
        import openvino

        exported = openvino.convert_model(Levels(), example_input=plain, input=list(plain.shape))
        for hint in ("f32", "bf16"):
            compiled = (
                openvino.Core()
                .compile_model(
                    exported,
                    "CPU",
                    {
                        "INFERENCE_PRECISION_HINT": hint,
                        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                    },
                )
                .create_infer_request()
            )
            turns.append((f"OpenVINO {hint}", True, lambda _, c=compiled: c.infer([plain.numpy()])))
    except ImportError:
        print("  OpenVINO is not installed")
    try:
        import tempfile

        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/backbone.onnx"
            torch.onnx.export(Levels(), (plain,), path, dynamo=False, opset_version=17)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        turns.append(
            ("ONNX Runtime float32", True, lambda _: session.run(None, {name: plain.numpy()}))
        )
    except ImportError:
        print("  ONNX Runtime is not installed")
    with torch.inference_mode():
        print(f"  the backbone alone, {tuple(plain.shape)}")
        table(in_turns(turns, [frame], rounds), "torchvision backbone")


def post_processing() -> None:
    """Time 100 maps to cropped masks at 1080p on one core, and torchvision's paste."""
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    generator = torch.Generator().manual_seed(100)
    height, width, count = 1080, 1920, 100
    area = (torch.rand(count, generator=generator) * 0.03 + 0.02) * height * width
    aspect = torch.rand(count, generator=generator) * 1.4 + 1
    w = (area / aspect).sqrt()
    h = w * aspect
    x = torch.rand(count, generator=generator) * (width - w)
    y = torch.rand(count, generator=generator) * (height - h).clamp(min=1)
    boxes = torch.stack([x, y, x + w, y + h], 1)
    maps = torch.rand(count, 1, 28, 28, generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    turns = [
        (
            "torchvision paste, threshold",
            False,
            lambda _: paste_masks_in_image(maps, boxes, (height, width)) >= 0.5,
        ),
        ("ours", True, lambda _: paste_masks(maps[:, 0], boxes, width, height)),
    ]
    print("  100 masks at 1080p, one thread")
    table(in_turns(turns, [None], 5), "torchvision paste, threshold")
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
