"""Still pictures as disks hold them: every kind, upright, in the right depth, or left out aloud."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from labelled import UPRIGHT_BY
from PIL import Image, ImageCms

from tracker.config import SourceConfig
from tracker.errors import SourceError
from tracker.video.source import open_source

WIDTH, HEIGHT = 64, 48
KINDS = {  # name: how Pillow writes it
    "plain.jpg": {},
    "plain.jpe": {"format": "JPEG"},
    "plain.jfif": {"format": "JPEG"},
    "progressive.jpg": {"progressive": True},
    "plain.png": {},
    "plain.bmp": {},
    "plain.dib": {},
    "plain.webp": {"lossless": True},
    "plain.gif": {},
    "plain.avif": {"quality": 100},
    "plain.jp2": {},
    "plain.ppm": {},
    "plain.tga": {},
    "plain.pcx": {},
    "plain.sgi": {},
    "plain.ico": {"sizes": [(WIDTH, HEIGHT)]},
    "plain.dds": {},
    "plain.tif": {},
    "jpeg.tif": {"compression": "jpeg", "quality": 95},
    "lzw.tiff": {"compression": "tiff_lzw"},
    "deflate.tif": {"compression": "tiff_deflate"},
    "zstd.tif": {"compression": "zstd"},
    "big.tif": {"big_tiff": True},
    "webp called.jpg": {"format": "WEBP", "lossless": True},
    "png called.jpg": {"format": "PNG"},
    "jpeg called.png": {"format": "JPEG", "quality": 95},
}
MODES = ["L", "P", "1", "LA", "RGBA", "CMYK"]


def picture(shift=0):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, WIDTH)
    image[..., 1] = np.linspace(0, 255, HEIGHT)[:, None]
    image[8:24, 8 + shift : 24 + shift] = 250
    return Image.fromarray(image)


def ramp(highest, kind):
    return np.tile(np.linspace(0, highest, WIDTH).astype(kind), (HEIGHT, 1))


def read(place, **settings):
    source = open_source(place, SourceConfig(**settings))
    return list(source), source.report


def differs(frame, image):
    return np.abs(frame.image.astype(int) - np.asarray(image.convert("RGB"), int)).mean()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("in_folder", [False, True])
def test_every_kind_is_read(tmp_path, name, in_folder):
    path = tmp_path / name
    picture().save(path, **KINDS[name])
    [frame], report = read(tmp_path if in_folder else path)
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert differs(frame, picture()) < 4
    assert report.complete, report


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_read(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image = picture().convert(mode)
    image.save(path)
    [frame], report = read(path)
    assert differs(frame, image) < 2
    assert report.complete


@pytest.mark.parametrize("orientation", UPRIGHT_BY)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_every_picture_is_upright(tmp_path, orientation, suffix):
    turn = UPRIGHT_BY[orientation]
    stored = picture() if turn is None else picture().transpose(turn)
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = orientation, "Maker"
    stored.save(tmp_path / f"x.{suffix}", exif=exif)
    [frame], report = read(tmp_path / f"x.{suffix}")
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert differs(frame, picture()) < 6
    assert report.complete


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x.png", ramp(65535, np.uint16)),
        ("x.tif", ramp(65535, np.uint16)),
        ("x.tif", ramp(1, np.float32)),
        ("x.tif", ramp(255, np.float32)),
        ("x.tif", ramp(65535, np.int32)),
    ],
)
def test_every_depth_is_scaled(tmp_path, name, values):
    Image.fromarray(values).save(tmp_path / name)
    [frame], _ = read(tmp_path / name)
    assert frame.image[0, :, 1] == pytest.approx(np.linspace(0, 255, WIDTH), abs=1.5)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_an_animation_is_a_video_at_its_own_times(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    pictures = [picture(4 * k) for k in range(5)]
    lengths = [100, 200, 100, 400, 100]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=lengths)
    frames, report = read(path)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.4, 0.8])
    assert all(differs(f, p) < 12 for f, p in zip(frames, pictures, strict=True))
    assert report.complete

    frames, report = read(tmp_path)  # in a folder it is one picture among others
    assert len(frames) == 1
    assert report.notes == [f"x.{suffix}: all but the first of 5 pictures left out"]


def test_the_pages_of_a_tiff_are_pictures(tmp_path):
    pictures = [picture(4 * k) for k in range(3)]
    for name in "ab":
        pictures[0].save(tmp_path / f"{name}.tif", save_all=True, append_images=pictures[1:])
    frames, report = read(tmp_path, fps=2)
    assert [frame.time for frame in frames] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert all(differs(f, p) == 0 for f, p in zip(frames, pictures * 2, strict=True))
    assert report.complete


@pytest.mark.parametrize("trailer", [b"x" * 9000, b"\0" * 100_000, b"MotionPhoto" + bytes(5000)])
def test_what_stands_behind_a_picture_does_not_matter(tmp_path, trailer):
    picture().save(tmp_path / "x.jpg")
    with (tmp_path / "x.jpg").open("ab") as file:
        file.write(trailer)
    [frame], report = read(tmp_path / "x.jpg")
    assert report.complete
    assert not frame.suspect


def damage(data, how):
    middle = len(data) // 2
    if how == "cut":
        return data[:middle]
    if how == "cut, end mark intact":
        return data[:middle] + b"\xff\xd9"
    return data[:middle] + bytes(300) + data[middle + 300 :]


@pytest.mark.parametrize("how", ["cut", "cut, end mark intact", "zeros"])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_damaged_picture_is_told(tmp_path, how, suffix):
    for k in range(3):
        noise = np.random.default_rng(k).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.{suffix}")
    path = tmp_path / f"1.{suffix}"
    path.write_bytes(damage(path.read_bytes(), how))
    frames, report = read(tmp_path)
    assert not report.complete
    assert report.suspect + report.bad_packets == 1
    assert not any(frame.suspect for frame in frames if frame.index != 1)


def test_what_a_disk_holds_beside_pictures(tmp_path):
    for k in range(6):
        picture(k).save(tmp_path / f"IMG_{k}.JPG", format="JPEG")
        (tmp_path / f"._IMG_{k}.JPG").write_bytes(b"\0\5\x16\7" + bytes(40))  # of macOS
    for name in ("Thumbs.db", "notes.txt", ".DS_Store", "list.csv"):
        (tmp_path / name).write_bytes(b"no picture")
    frames, report = read(tmp_path)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert frames[-1].time == 0.5
    assert report.complete


def test_pictures_that_are_left_out_are_said_by_kind_and_number(tmp_path):
    picture().save(tmp_path / "a.jpg")
    for name in ("b.heic", "c.HEIC", "d.cr2"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "e.jpg").symlink_to(tmp_path / "nowhere.jpg")
    frames, report = read(tmp_path)
    assert [frame.index for frame in frames] == [0]
    assert not report.complete
    assert report.notes == [
        "e.jpg: is a link that leads nowhere",
        "1 cr2 picture is left out: that kind is not read; save it as jpg or png",
        "2 heic pictures are left out: that kind is not read; save it as jpg or png",
    ]


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ("0001/1.png", "0001"),  # as KITTI and MOT call their sequences
        ("7/1.png", "7"),
        ("[x].png", "[x].png"),
        ("cam[1]/1.png", "cam[1]/*.png"),
        ("cam[1]/1.png", "cam[1]"),
        ("a*b/1.png", "a*b/*.png"),
        ("what?/[1].png", "what?/[[]*.png"),
        ("x/[1].png", "x/*.png"),
    ],
)
def test_what_is_there_goes_before_what_a_name_may_mean(tmp_path, monkeypatch, stored, named):
    monkeypatch.chdir(tmp_path)
    Path(stored).parent.mkdir(exist_ok=True)
    picture().save(stored)
    for place in (named, str(tmp_path / named)):
        frames, _ = read(place)
        assert len(frames) == 1


def test_brackets_are_still_a_pattern(tmp_path):
    for k in range(4):
        picture().save(tmp_path / f"{k}.png")
    assert len(read(str(tmp_path / "[12].png"))[0]) == 2


@pytest.mark.parametrize(
    ("made", "named", "said"),
    [
        ("f/x.txt", "f", "the folder holds no images"),
        ("f/a.mp4", "f", "it holds videos: 1; name them themselves"),
        ("f/1.jpg", "f/%03d.jpg", r"numbered images are named by '.*f/\*.jpg'"),
        ("f/1.jpg", "f/*.png", "matches no image"),
    ],
)
def test_no_picture_gets_one_sentence(tmp_path, made, named, said):
    (tmp_path / made).parent.mkdir()
    (tmp_path / made).write_bytes(b"x")
    with pytest.raises(SourceError, match=said):
        open_source(str(tmp_path / named))


def test_too_large_is_said_by_the_setting(tmp_path):
    for name in ("x.png", "x.gif"):
        picture().save(tmp_path / name)
        with pytest.raises(SourceError, match=r"source.max_pixels \(1000\)"):
            open_source(tmp_path / name, SourceConfig(max_pixels=1000))


def test_an_animation_goes_on_behind_a_mark(tmp_path):
    path = tmp_path / "x.webp"
    pictures = [picture(4 * k) for k in range(5)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=50, lossless=True)
    source = open_source(path)
    frames = []
    for frame in source:
        frames.append(frame)
        if frame.index == 2:
            mark = source.mark()
    again = list(open_source(path, SourceConfig(), mark))
    assert [(f.index, f.time) for f in again] == [(f.index, f.time) for f in frames[3:]]
    assert all((a.image == b.image).all() for a, b in zip(again, frames[3:], strict=True))


def test_no_file_stays_open(tmp_path):
    picture().save(tmp_path / "x.gif", save_all=True, append_images=[picture(4)])
    for place in (tmp_path, tmp_path / "x.gif"):
        source = open_source(place)
        frames = iter(source)
        next(frames)
        source.close()  # an open file would be a ResourceWarning, which is an error here
        frames.close()


def test_a_picture_with_a_colour_profile_is_read(tmp_path):
    """In a process of its own: PyAV's side data of such a PNG ends in a crash."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for suffix in ("png", "jpg", "webp", "tif"):
        picture().save(tmp_path / f"a.{suffix}", icc_profile=profile)
    script = (
        "import gc, sys\n"
        "from tracker.video.source import open_source\n"
        "frames = [f for place in sys.argv[1:] for f in open_source(place)]\n"
        "gc.collect()\n"
        "print(len(frames))\n"
    )
    places = [str(tmp_path), *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(
        [sys.executable, "-c", script, *places], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "8"), done.stderr


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif", "avif"])
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.95])
def test_cut_animations_and_pages_give_what_they_have(tmp_path, suffix, share):
    path = tmp_path / f"x.{suffix}"
    pictures = [picture(4 * k) for k in range(8)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    picture().save(tmp_path / "y.jpg")
    try:
        frames, report = read(path)
    except SourceError:
        frames, report = [], None
    assert len(frames) <= 8
    assert report is None or not report.complete
    frames, report = read(tmp_path)  # whatever it is, the rest of the folder is read
    assert differs(frames[-1], picture()) < 4


def test_a_still_gif_that_is_cut_is_told(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    for name in "ab":
        Image.fromarray(noise).save(tmp_path / f"{name}.gif")
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[: len(data) * 6 // 10])
    _, report = read(tmp_path)
    assert not report.complete


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("called", ["jpg", "gif", "png"])
def test_a_video_that_is_called_a_picture_is_a_video(make_video, suffix, called):
    path = make_video(name=f"x.{suffix}", frames=8)
    path = path.rename(path.with_suffix(f".{called}"))
    frames, report = read(path)
    assert len(frames) == 8
    assert report.complete


def test_an_animation_may_have_any_name(tmp_path):
    pictures = [picture(4 * k) for k in range(5)]
    for name, kind in (("a.jpg", "GIF"), ("b.png", "WEBP"), ("c.bmp", "TIFF")):
        path = tmp_path / name
        pictures[0].save(path, format=kind, save_all=True, append_images=pictures[1:])
        assert len(read(path)[0]) == 5


def test_the_second_view_of_a_picture_is_left_out_aloud(tmp_path):
    path = tmp_path / "x.mpo"
    picture().save(path, format="MPO", save_all=True, append_images=[picture(8)])
    for place in (path, tmp_path):
        [frame], report = read(place)
        assert differs(frame, picture()) < 6
        assert report.notes == ["x.mpo: all but the first of 2 pictures left out"]
