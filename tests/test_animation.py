"""Images of several frames or pages, of unusual depths, transparent, and under any name."""

import os
import re

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import features

from kpedge.core.animation import decode_animation, holds_several
from kpedge.core.errors import ImageError
from kpedge.core.images import decode_image, images_below, read_frames, read_image, to_8_bits
from kpedge.runtime.sources.open import open_source

DURATIONS = [100, 300, 100, 100, 50]

AVIF = pytest.mark.skipif(not features.check("avif"), reason="Pillow writes AVIF from 11.3 on")


def write_frames(path, count=5, **settings):
    """An image whose frame N is of the grey 40 N."""
    images = [Pillow.new("RGB", (40, 30), (40 * number,) * 3) for number in range(count)]
    images[0].save(path, save_all=True, append_images=images[1:], **settings)
    return path


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", pytest.param(".avif", marks=AVIF)])
def test_an_animated_image_gives_every_frame_with_its_time(tmp_path, suffix):
    path = write_frames(tmp_path / f"a{suffix}", duration=DURATIONS)
    assert holds_several(path)
    frames = list(read_frames(path))
    assert [round(float(frame.image.mean())) for frame in frames] == pytest.approx([0, 40, 80, 120, 160], abs=2)
    assert [(frame.frame, frame.time_s) for frame in frames] == [(0, 0), (1, 0.1), (2, 0.4), (3, 0.5), (4, 0.6)]
    assert [frame.time_s for frame in open_source(str(path))] == pytest.approx([0, 0.1, 0.4, 0.5, 0.6])


def test_a_gif_whose_frames_have_no_delays_gives_every_frame_or_says_so(tmp_path):
    path = write_frames(tmp_path / "a.gif")
    delays = re.compile(rb"\x21\xf9\x04.{4}\x00", re.DOTALL)  # graphic control extensions
    path.write_bytes(delays.sub(b"", path.read_bytes()))
    if not hasattr(cv2, "imdecodeanimation"):
        with pytest.raises(ImageError):
            list(read_frames(path))
        return
    frames = list(read_frames(path))
    assert [round(float(frame.image.mean())) for frame in frames] == pytest.approx([0, 40, 80, 120, 160], abs=2)
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_a_tiff_gives_every_page(tmp_path):
    frames = list(read_frames(write_frames(tmp_path / "a.tif", count=3)))
    assert [round(float(frame.image.mean())) for frame in frames] == [0, 40, 80]
    assert [frame.time_s for frame in frames] == [None] * 3
    assert [frame.time_s for frame in open_source(str(tmp_path / "a.tif"), rate=10)] == pytest.approx([0, 0.1, 0.2])


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif", ".bmp", ".jpg"])
def test_a_single_image_is_no_animation(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.full((30, 40, 3), 90, np.uint8))
    assert not holds_several(path)
    (picture,) = read_frames(path)
    assert picture.frame is None


def test_a_long_animation_is_decoded_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("kpedge.core.animation.CHUNK_BYTES", 2 * 40 * 30 * 3)
    data = write_frames(tmp_path / "a.webp", duration=DURATIONS, lossless=True).read_bytes()
    assert [round(float(image.mean())) for image, _ in decode_animation(data, "a")] == [0, 40, 80, 120, 160]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_are_stretched_by_those_that_are_used(bits):
    values = np.linspace(0, 2**bits - 1, 256).astype(np.uint16)[None]
    stretched = to_8_bits(values).astype(int)
    assert np.abs(stretched - np.arange(256)).max() <= 1
    data = cv2.imencode(".png", values)[1].tobytes()
    assert (decode_image(data, "a")[..., 0] == stretched).all()
    assert to_8_bits(values.astype(np.float32) / values.max()).max() == 255


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_pixels_that_cannot_be_seen_are_white(tmp_path, suffix):
    image = np.full((30, 40, 4), 90, np.uint8)
    image[:, :20, 3], image[:, 20:, 3] = 0, 255
    path = tmp_path / f"a{suffix}"
    Pillow.fromarray(image).save(path, lossless=True, exact=True)
    shown = read_image(path)
    assert (shown[:, :20] == 255).all()
    assert (shown[:, 20:] == 90).all()


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".jp2", ".ppm"])
def test_less_common_images_of_a_folder_are_read(tmp_path, suffix):
    encoder = {".jfif": ".jpg"}.get(suffix, suffix)
    try:
        data = cv2.imencode(encoder, np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    except cv2.error:
        pytest.skip(f"this OpenCV has no {suffix}")
    (tmp_path / f"a{suffix}").write_bytes(data)
    assert images_below(tmp_path) == [tmp_path / f"a{suffix}"]
    assert abs(float(read_image(tmp_path / f"a{suffix}").mean()) - 90) < 3


def test_images_of_a_folder_that_cannot_be_read_are_named(tmp_path):
    write_frames(tmp_path / "a.png", count=1)
    (tmp_path / "b.HEIC").write_bytes(b"anything")
    said = []
    assert len(list(open_source(str(tmp_path), notify=said.append))) == 1
    assert "b.HEIC" in said[0]


@pytest.mark.parametrize("name", [b"g\xe9.gif", b"d\xe9/g.gif", b"g\xe9.png", b"g\xe9.webp"])
def test_a_name_that_is_not_utf8_does_no_harm(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    made = write_frames(tmp_path / f"made{path.suffix}", count=3, duration=80)
    made.rename(path)
    assert len(list(read_frames(path))) == 3
