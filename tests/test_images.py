import contextlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import features

from kpedge import PIXEL_LIMIT
from kpedge.core.errors import ImageError
from kpedge.core.images import images_below, is_cut_off, read_frames, read_image, write_image
from kpedge.data.photos import PhotoHead, read_head

AVIF = pytest.mark.skipif(not features.check("avif"), reason="Pillow writes AVIF from 11.3 on")


@pytest.fixture
def picture():
    return cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8), (120, 90))


def encode(picture, suffix, *flags):
    return cv2.imencode(suffix, picture, list(flags))[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
def test_usual_formats_are_read(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, picture)
    assert read_image(path).shape == (90, 120, 3)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_cut_off_picture_is_refused(tmp_path, picture, suffix, kept):
    data = encode(picture, suffix)
    assert not is_cut_off(data)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageError, match="cut off"):
        read_image(path)


def test_a_progressive_jpeg_with_a_thumbnail_is_whole(picture):
    thumbnail = encode(picture[:8, :8], ".jpg")
    data = encode(picture, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = data[:2] + segment + data[2:]
    assert not is_cut_off(with_thumbnail)
    assert is_cut_off(with_thumbnail[: len(segment) + 40])
    assert is_cut_off(with_thumbnail[:-2])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"no picture at all", "not an image"), (None, "no such photo"), (b"\xff\xd8", "cut off")],
)
def test_what_is_no_picture_is_named(tmp_path, content, words):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        read_image(path)
    assert "a.jpg" in str(caught.value)


def test_a_name_without_a_known_format_is_refused(tmp_path, picture):
    for name in ("a", "a.xyz", "a.txt"):
        with pytest.raises(ImageError, match="format"):
            write_image(tmp_path / name, picture)
    assert list(tmp_path.iterdir()) == []


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    """In a process of its own: OpenCV reads the limit that kpedge sets when it is imported."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    command = [sys.executable, "-m", "kpedge", "predict", str(tmp_path / "bomb.png"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert PIXEL_LIMIT in done.stderr


@pytest.mark.parametrize("limit", ["abc", "", "1e9", "-4", "9" * 30])
def test_a_limit_that_is_no_number_does_not_abort_the_process(limit):
    code = "import kpedge, cv2, numpy; cv2.imdecode(cv2.imencode('.png', numpy.zeros((4, 4, 3), 'u1'))[1], 1)"
    environment = os.environ | {PIXEL_LIMIT: limit}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0
    assert f"{PIXEL_LIMIT}={limit!r} is not a whole number" in done.stderr


# Every kind of picture that another program writes

CORNERS = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (200, 200, 40)]], np.uint8)
"""Red, green, blue and ochre, red-green-blue."""


@pytest.fixture
def quarters():
    """A Pillow picture of 64 x 48 in four colours."""
    return Pillow.fromarray(np.repeat(np.repeat(CORNERS, 24, axis=0), 32, axis=1))


def corners(image):
    """The colours in the middles of the quarters, red-green-blue, (2, 2, 3)."""
    height, width = image.shape[:2]
    return image[height // 4 :: height // 2, width // 4 :: width // 2, ::-1].astype(int)


def assert_shows(image, wanted, tolerance=0):
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert np.abs(corners(image) - np.asarray(wanted, dtype=int)).max() <= tolerance


TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}
"""EXIF orientation -> how the stored pixels are to be shown (EXIF 2.32, tag 274)."""


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", TURNED)
def test_every_exif_orientation_is_applied(tmp_path, quarters, orientation, suffix):
    exif = Pillow.Exif()
    exif[274] = orientation
    path = tmp_path / f"a{suffix}"
    quarters.save(path, exif=exif, quality=95)
    shown = TURNED[orientation]
    for image in (read_image(path), next(read_frames(path)).image):
        assert image.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3))
        assert_shows(image, shown(CORNERS), 4)
    stored = read_image(path, stored=True)
    assert stored.shape == (48, 64, 3)
    assert_shows(stored, CORNERS, 4)


@AVIF
@pytest.mark.parametrize("orientation", TURNED)
def test_an_avif_is_upright_as_its_container_asks_for(tmp_path, quarters, orientation):
    exif = Pillow.Exif()
    exif[274] = orientation  # which Pillow writes as properties of the container
    path = tmp_path / "a.avif"
    quarters.save(path, exif=exif, quality=95)
    for image in (read_image(path), read_image(path, stored=True)):
        assert_shows(image, TURNED[orientation](CORNERS), 4)
        assert read_head(path) == PhotoHead(image.shape[1], image.shape[0])


@AVIF
@pytest.mark.parametrize("name", [b"meta", b"iprp", b"ipco", b"ipma", b"pitm"])
def test_an_avif_without_a_known_orientation_is_read_or_refused(tmp_path, quarters, name):
    path = tmp_path / "a.avif"
    quarters.save(path, quality=95)
    path.write_bytes(path.read_bytes().replace(name, b"free"))
    with contextlib.suppress(ImageError):
        assert read_image(path).shape == (48, 64, 3)


def grey(colours):
    return np.repeat(np.array(Pillow.fromarray(colours).convert("L"))[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("mode", "suffix", "wanted", "tolerance"),
    [
        ("L", ".png", grey(CORNERS), 0),
        ("LA", ".png", grey(CORNERS), 0),
        ("1", ".png", None, 0),
        ("P", ".png", CORNERS, 0),
        ("P", ".gif", CORNERS, 0),
        ("RGBA", ".png", CORNERS, 0),
        ("RGBA", ".webp", CORNERS, 4),
        ("CMYK", ".jpg", CORNERS, 6),
        ("CMYK", ".tif", CORNERS, 6),
        ("L", ".jpg", grey(CORNERS), 4),
        ("RGB", ".bmp", CORNERS, 0),
    ],
)
def test_every_colour_mode_becomes_colour(tmp_path, quarters, mode, suffix, wanted, tolerance):
    if mode == "1":
        quarters = quarters.convert("L").point(lambda value: 255 * (value > 100))
        wanted = np.array(quarters.convert("RGB"))[::24, ::32]
        assert 0 < wanted.mean() < 255
    palette = {"palette": Pillow.Palette.ADAPTIVE} if mode == "P" else {}
    converted = quarters.convert(mode, **palette)
    if mode == "RGBA":
        converted.putalpha(200)
    path = tmp_path / f"a{suffix}"
    converted.save(path, **({"lossless": True} if suffix == ".webp" else {}))
    (picture,) = read_frames(path)
    assert picture.image.shape == (48, 64, 3)
    assert_shows(picture.image, wanted, tolerance)


# Pictures that move


def film(path, durations):
    """A GIF with a white square that moves right by 8 pixels a frame over the four colours."""
    frames = []
    for number in range(len(durations)):
        image = np.repeat(np.repeat(CORNERS, 24, axis=0), 32, axis=1)
        image[20:28, 8 * number : 8 * number + 8] = 255
        frames.append(Pillow.fromarray(image))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return path


def assert_is_frame(picture, number):
    assert picture.image.shape == (48, 64, 3)
    assert_shows(picture.image, CORNERS)
    white = np.argwhere(picture.image.min(axis=2) == 255)
    assert white.min(axis=0).tolist() == [20, 8 * number]
    assert white.max(axis=0).tolist() == [27, 8 * number + 7]


def test_a_gif_of_one_frame_is_its_first(tmp_path):
    (only,) = read_frames(film(tmp_path / "a.GIF", [100]))
    assert_is_frame(only, 0)
    assert (only.frame, only.time_s) == (0, 0.0)


@pytest.mark.parametrize("name", ["x%02d.gif", "frame0001.gif", "http:x.gif", "a:b.gif", "-v.gif", "é ü.gif"])
def test_the_name_of_a_gif_is_a_file_whatever_it_looks_like(tmp_path, monkeypatch, name):
    """FFmpeg, given such a name, would look for a protocol or a series of files."""
    film(tmp_path / name, [100, 100, 100])
    monkeypatch.chdir(tmp_path)
    assert [picture.frame for picture in read_frames(Path(name))] == [0, 1, 2]


def test_a_png_that_states_more_than_it_holds_is_refused_before_it_is_decoded(tmp_path):
    data = bytearray(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    assert not is_cut_off(bytes(data) + b"what follows is ignored" * 9)
    at = data.index(b"IDAT")
    data[at - 4 : at] = (2**31 - 16).to_bytes(4, "big")
    assert is_cut_off(bytes(data))


def test_a_gif_that_is_cut_off_anywhere_is_refused(tmp_path):
    data = film(tmp_path / "a.gif", [100, 200, 100]).read_bytes()
    assert not is_cut_off(data)
    assert not is_cut_off(data + b"what a camera wrote behind it")
    assert all(is_cut_off(data[:length]) for length in range(4, len(data)))
    for suffix in (".gif", ".jpg"):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError, match=f"cut{suffix}: the image is cut off"):
            next(read_frames(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such photo"),
        (b"", "not a GIF"),
        (b"GIF", "not a GIF"),
        (b"no picture at all", "not a GIF"),
        (b"\x89PNG\r\n\x1a\n", "not a GIF"),
        (b"GIF89a", "cut off"),
        (b"GIF89a" + bytes(range(1, 200)), "cut off"),
        (b"GIF89a\x10\x00\x10\x00\x00\x00\x00;", "not an image"),
    ],
)
def test_what_is_no_gif_is_named(tmp_path, content, words):
    path = tmp_path / "a.gif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        list(read_frames(path))
    assert "a.gif" in str(caught.value)


def test_pictures_in_a_folder_are_found_by_their_names(tmp_path, picture):
    (tmp_path / "b" / "c.png").mkdir(parents=True)
    names = ["a.JPG", "b/c.png/d.webp", "b/e.gif", "b/f.tiff"]
    for name in (*names, "b/notes.txt", "b/label"):
        (tmp_path / name).write_bytes(b"")
    assert [str(path.relative_to(tmp_path)) for path in images_below(tmp_path)] == names
