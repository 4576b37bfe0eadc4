"""Write a scripted scene's truth as labelled pictures, in every form that is read."""

from __future__ import annotations

import json

import numpy as np
import scene as scenes
from PIL import Image

from tracker.masks import mask_to_rle

UPRIGHT_BY = {  # what a camera stores under an EXIF orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
NAMES = {1: "person", 2: "car", 3: "dog"}


def frames(count=6, seed=0, size=None):
    """Return (picture, labels, full masks) of a random street; hidden objects are left out."""
    scene = scenes.random_street(seed)
    found = []
    for index in np.linspace(8, len(scene.times) - 8, count, dtype=int).tolist():
        picture, truth = scene.image(index), scene.truth(index)
        masks = []
        for mask in truth.masks:
            full = np.zeros(picture.shape[:2], bool)
            x1, y1, x2, y2 = mask.box
            full[y1:y2, x1:x2] = mask.bits
            masks.append(full)
        if size:
            step = picture.shape[0] // size
            picture, masks = picture[::step, ::step], [m[::step, ::step] for m in masks]
        keep = [k for k, mask in enumerate(masks) if mask.any()]
        labels = [int(truth.labels[k]) for k in keep]
        found.append((picture, labels, [masks[k] for k in keep]))
    return found


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def rle(full):
    from tracker.masks import Mask

    return mask_to_rle(Mask(0, 0, full).tight(), full.shape[1], full.shape[0])


def coco(root, items, **changes):
    """Write labels.json and images/; `changes` are laid over the content."""
    images, annotations = [], []
    for k, (picture, labels, masks) in enumerate(items):
        save(root / "images" / f"{k}.png", picture)
        size = {"width": picture.shape[1], "height": picture.shape[0]}
        images.append({"id": k + 1, "file_name": f"{k}.png", **size})
        for label, mask in zip(labels, masks, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": k + 1,
                    "category_id": label * 10,
                    "iscrowd": 0,
                    "segmentation": rle(mask),
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k * 10, "name": name} for k, name in NAMES.items()],
    } | changes
    path = root / "labels.json"
    path.write_text(json.dumps(content))
    return path


def youtube_vis(root, items):
    """Write a YouTube-VIS file with one video; every object of a frame is a track of its own."""
    height, width = items[0][0].shape[:2]
    annotations = []
    for k, (picture, labels, masks) in enumerate(items):
        save(root / "JPEGImages" / "clip" / f"{k:05d}.png", picture)
        for label, mask in zip(labels, masks, strict=True):
            segmentations = [None] * len(items)
            segmentations[k] = rle(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": 1,
                    "category_id": label,
                    "segmentations": segmentations,
                }
            )
    names = [f"clip/{k:05d}.png" for k in range(len(items))]
    video = {"id": 1, "width": width, "height": height, "file_names": names}
    content = {
        "videos": [video],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in NAMES.items()],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return root


def mots(root, items, *, text=False):
    """Write a MOTS set, as PNG or as text; its classes are 1 car and 2 person, others ignored."""
    numbers = {1: 2, 2: 1, 3: 10}
    lines = []
    for k, (picture, labels, masks) in enumerate(items):
        save(root / "images" / "0002" / f"{k:06d}.png", picture)
        plane = np.zeros(picture.shape[:2], np.uint16)
        for number, (label, mask) in enumerate(zip(labels, masks, strict=True)):
            plane[mask] = numbers[label] * 1000 + number
            height, width = mask.shape
            id_ = numbers[label] * 1000 + number
            counts = rle(mask)["counts"]
            lines.append(f"{k} {id_} {numbers[label]} {height} {width} {counts}\n")
        if not text:
            save(root / "instances" / "0002" / f"{k:06d}.png", plane)
    if text:
        (root / "instances_txt").mkdir()
        (root / "instances_txt" / "0002.txt").write_text("".join(lines))
    return root


def penn_fudan(root, items):
    """Write pictures and palette PNGs whose values number the objects."""
    for k, (picture, _, masks) in enumerate(items):
        save(root / "PNGImages" / f"P{k}.png", picture)
        plane = np.zeros(picture.shape[:2], np.uint8)
        for number, mask in enumerate(masks, 1):
            plane[mask] = number
        image = Image.fromarray(plane)
        image.putpalette([v for k in range(256) for v in (k, 255 - k, 90)])
        (root / "PedMasks").mkdir(exist_ok=True)
        image.save(root / "PedMasks" / f"P{k}_mask.png")
    return root


def cityscapes(root, items):
    """Write Cityscapes' folders; its classes 24 person and 26 car, 7 (road) has no instances."""
    numbers = {1: 24, 2: 26, 3: 7}
    for k, (picture, labels, masks) in enumerate(items):
        save(root / "leftImg8bit" / "train" / "ulm" / f"ulm_{k}_leftImg8bit.png", picture)
        plane = np.full(picture.shape[:2], 7, np.uint16)
        for number, (label, mask) in enumerate(zip(labels, masks, strict=True)):
            plane[mask] = numbers[label] * 1000 + number if label < 3 else 7
        save(root / "gtFine" / "train" / "ulm" / f"ulm_{k}_gtFine_instanceIds.png", plane)
    return root
