import cv2
import numpy as np
import pytest
from conftest import turned_jpeg

from kpedge.errors import ImageError
from kpedge.images import is_cut_off, read_image, write_image


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
    [(b"", "is empty"), (b"no picture at all", "not a picture"), (None, "no such photo"), (b"\xff\xd8", "cut off")],
)
def test_what_is_no_picture_is_named(tmp_path, content, words):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        read_image(path)
    assert "a.jpg" in str(caught.value)


def test_exif_orientation_is_applied_unless_the_stored_pixels_are_wanted(tmp_path, picture):
    data = encode(picture, ".jpg")
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned_jpeg(data))
    assert read_image(path).shape == (120, 90, 3)
    assert read_image(path, stored=True).shape == (90, 120, 3)


@pytest.mark.parametrize(
    "convert", [lambda p: p[:, :, 0], lambda p: np.dstack([p, p[:, :, 0]]), lambda p: p.astype(np.uint16) * 257]
)
def test_grey_alpha_and_16_bit_pictures_become_8_bit_colour(tmp_path, picture, convert):
    path = tmp_path / "a.png"
    path.write_bytes(encode(convert(picture), ".png"))
    image = read_image(path)
    assert image.shape == (90, 120, 3)
    assert image.dtype == np.uint8
    assert abs(int(image[:, :, 0].max()) - int(picture[:, :, 0].max())) <= 1


def test_a_name_without_a_known_format_is_refused(tmp_path, picture):
    for name in ("a", "a.xyz", "a.txt"):
        with pytest.raises(ImageError, match="format"):
            write_image(tmp_path / name, picture)
    assert list(tmp_path.iterdir()) == []
