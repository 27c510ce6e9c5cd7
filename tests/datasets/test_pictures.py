"""Files whose pixels are known: constant colours, halves of two colours, corners, in formats that lose nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from enas.datasets.pictures import check_headers, read_pictures, readable_suffixes

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WIDTH, HEIGHT = 6, 4


def read_one(file: Path, image_size: int | None = None) -> npt.NDArray[np.uint8]:
    return read_pictures(file.parent, [file], image_size)[0]


def save(folder: Path, image: Image.Image, name: str, **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def halves(left: tuple[int, int, int] = RED, right: tuple[int, int, int] = BLUE) -> Image.Image:
    """6 x 4 pixels: three columns of one colour, three of another."""
    image = Image.new("RGB", (WIDTH, HEIGHT), left)
    image.paste(right, (WIDTH // 2, 0, WIDTH, HEIGHT))
    return image


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tga", "ppm", "PNG"])
def test_colours_are_read_from_every_lossless_format(suffix: str, tmp_path: Path) -> None:
    pixels = read_one(save(tmp_path, halves(), f"x.{suffix}"))
    assert pixels.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(pixels[:, :, :3], np.broadcast_to(np.reshape(RED, (3, 1, 1)), (3, HEIGHT, 3)))
    np.testing.assert_array_equal(pixels[:, :, 3:], np.broadcast_to(np.reshape(BLUE, (3, 1, 1)), (3, HEIGHT, 3)))


@pytest.mark.parametrize(("suffix", "options"), [("jpg", {"quality": 95}), ("webp", {"lossless": True})])
def test_photographs_are_read_nearly(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    pixels = read_one(save(tmp_path, Image.new("RGB", (16, 8), (200, 100, 50)), f"x.{suffix}", **options))
    assert pixels.shape == (3, 8, 16)
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), (200, 100, 50), atol=2)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.new("RGBA", (3, 2), (10, 20, 30, 0)), "transparent.png"),  # alpha is dropped, not blended
        (Image.new("RGB", (3, 2), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE), "palette.png"),
        (Image.new("RGB", (3, 2), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE), "palette.gif"),
        (Image.new("CMYK", (3, 2), (245, 235, 225, 0)), "print.tif"),
    ],
)
def test_every_kind_of_colour_becomes_rgb(image: Image.Image, name: str, tmp_path: Path) -> None:
    pixels = read_one(save(tmp_path, image, name))
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.reshape((10, 20, 30), (3, 1, 1)), (3, 2, 3)))


def test_palette_with_several_transparent_colours_is_read_in_silence(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2))
    image.putpalette([10, 20, 30, 40, 50, 60])
    pixels = read_one(save(tmp_path, image, "x.png", transparency=b"\x00\x80"))
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("image", "name", "level"),
    [
        (Image.new("L", (3, 2), 77), "x.png", 77),
        (Image.new("L", (3, 2), 77), "x.pgm", 77),
        (Image.new("LA", (3, 2), (77, 0)), "x.png", 77),
        (Image.new("1", (3, 2), 1), "x.png", 255),
        (Image.fromarray(np.full((2, 3), 77 * 257, dtype=np.uint16)), "x.png", 77),
        (Image.fromarray(np.full((2, 3), 65535, dtype=np.uint16)), "x.tif", 255),
        (Image.fromarray(np.full((2, 3), 77 * 257, dtype=np.uint16)), "x.pgm", 77),
        (Image.fromarray(np.full((2, 3), 1000, dtype=np.int32)), "x.tif", 4),  # 1000 / 257 = 3.89
    ],
)
def test_every_kind_of_grey_stays_one_channel(image: Image.Image, name: str, level: int, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_one(save(tmp_path, image, name)), np.full((1, 2, 3), level))


def test_grey_among_colours_becomes_rgb(tmp_path: Path) -> None:
    files = [
        save(tmp_path, Image.new("L", (3, 2), 9), "0.png"),
        save(tmp_path, Image.new("RGB", (3, 2), BLUE), "1.png"),
        save(tmp_path, Image.new("1", (3, 2), 1), "2.png"),
    ]
    images = read_pictures(tmp_path, files, None)
    assert images.shape == (3, 3, 2, 3)
    assert images[:, :, 1, 2].tolist() == [[9, 9, 9], list(BLUE), [255, 255, 255]]


def test_first_picture_of_an_animation_counts(tmp_path: Path) -> None:
    file = tmp_path / "x.gif"
    Image.new("RGB", (3, 2), RED).save(file, save_all=True, append_images=[Image.new("RGB", (3, 2), BLUE)])
    assert read_one(file)[:, 0, 0].tolist() == list(RED)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("jpg", {}), ("webp", {"lossless": True})],
)
def test_photographs_are_turned_as_exif_asks(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: the left half belongs on top
    image = Image.new("L", (32, 16), 0)
    image.paste(255, (16, 0, 32, 16))
    file = save(tmp_path, image, f"x.{suffix}", exif=exif, **options)
    pixels = read_one(file)
    assert pixels.shape[1:] == (32, 16)
    np.testing.assert_array_equal(pixels[:, :16], 0)
    np.testing.assert_array_equal(pixels[:, 16:], 255)
    check_headers(tmp_path, [file, save(tmp_path, Image.new("L", (16, 32)), "upright.png")], None)


@pytest.mark.parametrize(("width", "height"), [(12, 6), (6, 12), (600, 300), (300, 600), (7, 3)])
def test_resizing_fits_the_shorter_side_and_crops_around_the_centre(width: int, height: int, tmp_path: Path) -> None:
    """A green square in the middle, as high or wide as the image, and red beside it: green is left, but for smooth borders."""
    image = Image.new("RGB", (width, height), RED)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste(GREEN, (left, top, left + side, top + side))
    pixels = read_one(save(tmp_path, image, "x.png"), 6)
    assert pixels.shape == (3, 6, 6)
    np.testing.assert_array_equal(pixels[:, 2:4, 2:4], np.broadcast_to(np.reshape(GREEN, (3, 1, 1)), (3, 2, 2)))
    assert pixels[1].min() > 190
    assert pixels[0].max() < 65


def test_resizing_enlarges_too(tmp_path: Path) -> None:
    pixels = read_one(save(tmp_path, halves().resize((2, 2), Image.Resampling.NEAREST), "x.png"), 8)
    assert pixels.shape == (3, 8, 8)
    assert (pixels[0, :, 0].tolist(), pixels[2, :, -1].tolist()) == ([255] * 8, [255] * 8)


def test_resizing_averages_what_it_shrinks(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = read_one(save(tmp_path, Image.fromarray(board.astype(np.uint8)), "x.png"), 8)
    assert pixels.shape == (1, 8, 8)
    assert 120 <= pixels.min() <= pixels.max() <= 135


def test_large_jpeg_keeps_its_colours_and_centre_when_shrunk(tmp_path: Path) -> None:
    image = Image.new("RGB", (1000, 500), (200, 100, 50))
    image.paste((50, 100, 200), (500, 0, 1000, 500))
    pixels = read_one(save(tmp_path, image, "x.jpg", quality=95), 10)
    np.testing.assert_allclose(pixels[:, :, 1], np.broadcast_to(np.reshape((200, 100, 50), (3, 1)), (3, 10)), atol=4)
    np.testing.assert_allclose(pixels[:, :, 8], np.broadcast_to(np.reshape((50, 100, 200), (3, 1)), (3, 10)), atol=4)


def test_large_jpeg_stays_sharp_when_shrunk(tmp_path: Path) -> None:
    image = Image.new("L", (400, 400), 0)
    image.paste(255, (200, 0, 400, 400))
    row = read_one(save(tmp_path, image, "x.jpg", quality=95), 100)[0, 50]
    assert row[49] < 30  # 52 if it were decoded at an eighth of its size and enlarged again
    assert row[50] > 225


def test_files_stay_in_their_order(tmp_path: Path) -> None:
    files = [save(tmp_path, Image.new("L", (40 + i % 3, 40), i), f"{i}.png") for i in range(100)]
    assert read_pictures(tmp_path, files, 5)[:, 0, 2, 2].tolist() == list(range(100))


def test_images_of_two_sizes_are_refused_by_names_and_sizes(tmp_path: Path) -> None:
    files = [save(tmp_path, Image.new("L", size), f"{size[0]}.png") for size in ((5, 7), (6, 7))]
    message = (
        f"{tmp_path}: expected images of one size, or --split.image-size N to make them N x N, "
        "got 5.png with 5 x 7 pixels (width x height) and 6.png with 6 x 7"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        check_headers(tmp_path, files, None)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_pictures(tmp_path, files, None)
    check_headers(tmp_path, files, 5)
    assert read_pictures(tmp_path, files, 5).shape == (2, 1, 5, 5)


@pytest.mark.parametrize("content", [b"", b"some text"])
def test_file_that_is_no_image_is_refused_by_its_header(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(content)
    got = "a file that is no image" if content else "an empty file"
    message = rf"^{re.escape(str(file))}: expected a whole image \(JPEG, by its suffix\), got {got}"
    with pytest.raises(ValueError, match=message):
        check_headers(tmp_path, [file], None)
    with pytest.raises(ValueError, match=message):
        read_one(file)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif", "webp", "ppm"])
def test_truncated_image_is_refused_by_name(suffix: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8))
    file = save(tmp_path, noise, f"x.{suffix}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: expected a whole image \(.*, by its suffix\), got "):
        read_one(file)


@pytest.mark.parametrize("levels", [np.float32([[0.5]]), np.int32([[-1]]), np.int32([[65536]])])
def test_grey_of_more_than_16_bits_is_refused(levels: npt.NDArray[Any], tmp_path: Path) -> None:
    file = save(tmp_path, Image.fromarray(levels), "x.tif")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: expected .*grey levels"):
        read_one(file)


def test_image_of_a_billion_pixels_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    file = save(tmp_path, Image.new("L", (5, 5)), "x.png")
    message = rf"^{re.escape(str(file))}: expected .*25 pixels\) exceeds limit of 20"
    with pytest.raises(ValueError, match=message):
        check_headers(tmp_path, [file], None)
    with pytest.raises(ValueError, match=message):
        read_one(file)


def test_suffixes_are_those_of_formats_that_are_read_and_not_only_written() -> None:
    assert {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"} <= readable_suffixes()
    assert not {".pdf", ".txt", ".npz", ""} & readable_suffixes()
