"""What a folder or a file is for, by its name: to train on, to validate by, or to test by."""

from __future__ import annotations

import re
from typing import Literal

Split = Literal["", "train", "val", "test"]

SPLITS: dict[str, Split] = {
    **dict.fromkeys(
        ("train", "training", "trn", "trains", "trainset", "minitrain", "trainval"), "train"
    ),
    **dict.fromkeys(
        (
            "val", "valid", "validation", "validate", "validating", "vals", "valset", "minival",
            "eval", "evaluation", "evaluate", "evalset", "dev", "devset", "holdout", "heldout",
        ),
        "val",
    ),
    **dict.fromkeys(("test", "testing", "tst", "tests", "testset", "testdev"), "test"),
}  # fmt: skip
_BESIDE = {
    "set", "data", "dataset", "images", "image", "imgs", "img", "split", "part", "labels", "label",
    "masks", "mask", "annotations", "instances", "frames", "stage", "fold",
}  # fmt: skip  # words beside a split in a folder's name
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words(name: str) -> set[str]:
    """Return the words of a name in small letters; a capital begins one (instancesTrain)."""
    return {
        word.lower() for word in _WORD.findall(re.sub("(?i)(hold|held)[-_ ]out", r"\1out", name))
    }


def split_of(name: str) -> Split:
    """Return what a name says that something is for; nothing where it says no one thing.

    A name of validation and test, as val_test, is to validate by, but test-dev is a test.
    """
    named = words(name) & SPLITS.keys()
    found = {SPLITS[word] for word in named}
    if found == {"val", "test"}:
        return "test" if {"dev", "devset"} & named else "val"
    if found == {"train", "val"}:
        return "train"
    return found.pop() if len(found) == 1 else ""


def is_both(name: str) -> bool:
    """Tell whether a name is of training and validation together, as trainval or train_val."""
    named = words(name) & SPLITS.keys()
    return "trainval" in named or {SPLITS[word] for word in named} == {"train", "val"}


def folder_split(name: str) -> Split:
    """Return what a folder is for by its name, as train or val_images; not test_project."""
    return split_of(name) if words(name) <= SPLITS.keys() | _BESIDE else ""
