from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enas.datasets import check_source, load_data
from enas.datasets.augment import Augmentation
from enas.datasets.folder import HEADERS_PER_CLASS, read_folder
from enas.datasets.source import SplitSizes


def write(folder: Path, names: Iterable[str], *, level: int = 0) -> None:
    """Write 4 x 4 grey images; the first has the grey level `level`, each next one a level more, so that pixels tell files."""
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), level + index).save(folder / name)


def numbered(count: int) -> list[str]:
    return [f"{index}.png" for index in range(count)]


def levels(images: object) -> list[int]:
    """The grey level of each constant image."""
    array = np.asarray(images)
    assert array.min(axis=(1, 2, 3)).tolist() == array.max(axis=(1, 2, 3)).tolist()
    return [int(level) for level in array[:, 0, 0, 0]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "photos"


# Layouts.


def test_folder_of_classes_gives_the_last_fifth_of_each_class_to_test_and_a_tenth_of_the_rest_to_validation(root: Path) -> None:
    write(root / "cat", numbered(25))
    write(root / "ape", numbered(50), level=100)
    data = load_data(f"folder:{root}", data_dir=Path("data"))
    assert data.num_classes == 2
    assert data.input_shape == (1, 4, 4)
    # ape is class 0; its 10 and cat's 5 last images test; of the 40 + 20 left, 6 validate
    assert levels(data.test.images) == [*range(140, 150), *range(20, 25)]
    assert data.test.labels.tolist() == [0] * 10 + [1] * 5
    assert levels(data.valid.images) == [*range(136, 140), 18, 19]
    assert data.valid.labels.tolist() == [0] * 4 + [1] * 2
    assert levels(data.train.images) == [*range(100, 136), *range(18)]
    assert data.train.labels.tolist() == [0] * 36 + [1] * 18


def test_folders_train_and_test_are_taken_as_they_are(root: Path) -> None:
    write(root / "train/a", numbered(20))
    write(root / "train/b", numbered(20), level=50)
    write(root / "test/a", numbered(2), level=100)
    write(root / "test/b", numbered(3), level=200)
    data = load_data(f"folder:{root}", data_dir=Path("data"))
    assert levels(data.test.images) == [100, 101, 200, 201, 202]
    assert data.test.labels.tolist() == [0, 0, 1, 1, 1]
    assert levels(data.valid.images) == [18, 19, 68, 69]
    assert levels(data.train.images) == [*range(18), *range(50, 68)]


@pytest.mark.parametrize(("train", "valid", "test"), [("train", "val", "test"), ("Train", "Valid", "TEST")])
def test_folder_of_validation_images_is_the_validation_split(train: str, valid: str, test: str, root: Path) -> None:
    write(root / train / "a", numbered(1))
    write(root / train / "b", numbered(4), level=50)
    write(root / valid / "b", numbered(1), level=100)
    write(root / valid / "a", numbered(3), level=150)
    write(root / test / "a", numbered(1), level=200)
    data = load_data(f"folder:{root}", data_dir=Path("data"))
    assert levels(data.valid.images) == [150, 151, 152, 100]
    assert data.valid.labels.tolist() == [0, 0, 0, 1]
    assert levels(data.train.images) == [0, 50, 51, 52, 53]
    assert data.train.labels.tolist() == [0, 1, 1, 1, 1]
    few = load_data(f"folder:{root}", data_dir=Path("data"), num_train=3)
    assert (levels(few.train.images), levels(few.valid.images)) == ([0, 50, 51], [150, 151, 152, 100])
    assert check_source(f"folder:{root}", Path("data"), num_train=3) == SplitSizes(train=3, valid=4, test=1)
    message = "split.num_valid: expected None, since the data set has 4 validation images of its own, got 2"
    with pytest.raises(ValueError, match=message):
        check_source(f"folder:{root}", Path("data"), num_valid=2)
    with pytest.raises(ValueError, match=message):
        load_data(f"folder:{root}", data_dir=Path("data"), num_valid=2)


def test_split_beside_classes_is_not_taken_for_a_class(root: Path) -> None:
    for name in ("train/a", "train/b", "c"):
        write(root / name, numbered(5))
    with pytest.raises(ValueError, match=r"expected the folders train and test .*, got c, train"):
        load_data(f"folder:{root}", data_dir=Path("data"))


def test_classes_called_train_and_plane_are_classes(root: Path) -> None:
    for name in ("plane", "train"):
        write(root / name, numbered(5))
    assert load_data(f"folder:{root}", data_dir=Path("data")).num_classes == 2


def test_numbers_in_names_count_by_value_so_that_neighbours_stay_together(root: Path) -> None:
    frames = [f"video_{video}/frame_{frame}.png" for video in (9, 10) for frame in (1, 2, 9, 10, 11)]
    write(root / "a", frames)
    write(root / "b", frames, level=100)
    raw = read_folder(root)
    assert levels(raw.train_images) == [*range(8), *range(100, 108)]
    assert levels(raw.test_images) == [8, 9, 108, 109]


def test_order_does_not_depend_on_when_files_were_written(tmp_path: Path) -> None:
    names = ["1.png", "01.png", "x.png", "B.png", "b/2.png", "b/10.png", "é.png"]
    for folder, order in (("one", names), ("two", names[::-1])):
        for name in order:
            for label in "ab":
                write(tmp_path / folder / label, [name], level=names.index(name))
    one, two = (levels(read_folder(tmp_path / folder).train_images) for folder in ("one", "two"))
    assert one == two
    assert len(set(one)) == 6


def test_images_of_nested_folders_are_read_and_other_files_left_aside(root: Path) -> None:
    for name in ("a", "b"):
        write(root / name, ["0.png", "deep/er/1.PNG", "deep/2.bmp"])
        write(root / name, [".hidden.png", ".cache/3.png", "__MACOSX/4.png"], level=50)
        for other in ("notes.txt", "print.pdf", "labels.csv", "suffixless", "deep/Thumbs.db"):
            (root / name / other).write_text("no image")
    write(root / ".ipynb_checkpoints", numbered(3))
    write(root / "__MACOSX", numbered(3))
    write(root, ["preview.png"])
    raw = read_folder(root)
    assert raw.num_classes == 2
    assert sorted(levels(raw.train_images) + levels(raw.test_images)) == [0, 0, 1, 1, 2, 2]


def test_class_folder_may_be_a_link(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", numbered(5), level=30)
    write(root / "b", numbered(5))
    (root / "a").symlink_to(tmp_path / "elsewhere")
    assert levels(read_folder(root).test_images) == [34, 4]


# Images.


def test_images_are_resized_as_asked(root: Path) -> None:
    for name, colour in (("a", (200, 10, 10)), ("b", (10, 10, 200))):
        for index, size in enumerate([(10, 20), (30, 20), (7, 7), (64, 64)]):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, colour).save(root / name / f"{index}.{'bmp' if index % 2 else 'png'}")
    data = load_data(f"folder:{root}", data_dir=Path("data"), image_size=16)
    assert data.input_shape == (3, 16, 16)
    assert data.augmentation == Augmentation(pad=2, flip=True)
    for split in (data.train, data.valid, data.test):
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            assert image.flatten(1).unique(dim=1).tolist() == [[[200], [10], [10]], [[10], [10], [200]]][label]


def test_images_of_other_sizes_are_refused_without_the_flag_even_where_no_header_was_read(root: Path) -> None:
    for name in ("a", "b"):
        write(root / "train" / name, numbered(HEADERS_PER_CLASS + 1))
        write(root / "test" / name, numbered(1))
    Image.new("L", (4, 5)).save(root / "train/b" / f"{HEADERS_PER_CLASS}.png")
    assert check_source(f"folder:{root}", Path("data")).train == 38
    message = "train/a/0.png with 4 x 4 pixels (width x height) and train/b/20.png with 4 x 5"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_data(f"folder:{root}", data_dir=Path("data"))
    Image.new("L", (5, 4)).save(root / "test/b/0.png")
    with pytest.raises(ValueError, match=r"--split.image-size N .* and test/b/0.png with 5 x 4"):
        check_source(f"folder:{root}", Path("data"))


def test_one_colour_image_makes_all_of_them_rgb(root: Path) -> None:
    for name in ("a", "b"):
        write(root / name, numbered(5))
    Image.new("RGB", (4, 4), (1, 2, 3)).save(root / "b/4.png")
    data = load_data(f"folder:{root}", data_dir=Path("data"))
    assert data.input_shape == (3, 4, 4)
    assert data.test.images[1, :, 0, 0].tolist() == [1, 2, 3]
    assert data.test.images[0, :, 0, 0].tolist() == [4, 4, 4]


def test_text_called_png_is_found_by_the_check_and_a_truncated_image_when_it_is_read(root: Path) -> None:
    for name in ("a", "b"):
        write(root / name, numbered(5))
    noise = np.random.default_rng(0).integers(256, size=(4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "a/0.png")
    damaged = root / "a/0.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    assert check_source(f"folder:{root}", Path("data")).test == 2
    with pytest.raises(ValueError, match=rf"^{re.escape(str(damaged))}: expected a whole image \(PNG, by its suffix\), got "):
        load_data(f"folder:{root}", data_dir=Path("data"))
    damaged.write_text("no image")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(damaged))}: expected a whole image .*, got a file that is no image"):
        check_source(f"folder:{root}", Path("data"))


def test_check_reads_a_bounded_number_of_headers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(120):
        write(root / f"class_{index}", numbered(12))
    opened = []
    monkeypatch.setattr("enas.datasets.pictures._header_size", lambda file: opened.append(file) or (4, 4))
    assert check_source(f"folder:{root}", Path("data")) == SplitSizes(train=1080, valid=120, test=240)
    assert 120 * 2 <= len(opened) <= 1000
    assert {file.parent.name for file in opened} == {f"class_{index}" for index in range(120)}


# Mistakes.


def text(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("no image")


def make(folder: Path, *counts: tuple[str, int]) -> None:
    for name, count in counts:
        (folder / name).mkdir(parents=True, exist_ok=True)
        write(folder / name, numbered(count))


MISTAKES = {
    "missing": ([], [], "photos: expected a folder with a subfolder for each class of images, found nothing there"),
    "empty": ([("", 0)], [], "photos: expected a subfolder for each of at least 2 classes, got none and 0 files"),
    "flat": ([("", 3)], [], "photos: expected a subfolder for each of at least 2 classes, got none and 3 files"),
    "one class": ([("a", 5)], [], r"photos: expected a subfolder for each of at least 2 classes, got 1 \(a\)"),
    "hidden class": ([("a", 5), (".b", 5)], [], r"photos: expected .* at least 2 classes, got 1 \(a\)"),
    "empty class": ([("a", 5), ("b", 0)], [], "photos/b: expected images of the class b, got none$"),
    "class of texts": (
        [("a", 5)],
        ["b/x.txt", "b/y.txt"],
        "photos/b: expected images of the class b, got none beside 2 files with other suffixes",
    ),
    "two images": (
        [("a", 5), ("b", 2)],
        [],
        "photos/b: expected at least 3 images, to train, validate and test on, got 2",
    ),
    "one image to train and validate": (
        [("train/a", 5), ("train/b", 1), ("test/a", 1)],
        [],
        "photos/train/b: expected at least 2 images, to train and validate on, got 1",
    ),
    "class of test alone": (
        [("train/a", 5), ("train/b", 5), ("test/c", 1), ("test/a", 1)],
        [],
        "photos/test: expected only the classes of .*photos/train, a, b, got c",
    ),
    "class of val alone": (
        [("train/a", 5), ("train/b", 5), ("test/a", 1), ("val/c", 1)],
        [],
        "photos/val: expected only the classes of .*photos/train, a, b, got c",
    ),
    "empty class of test": (
        [("train/a", 5), ("train/b", 5), ("test/a", 0)],
        [],
        "photos/test/a: expected images of the class a, got none",
    ),
    "flat test": (
        [("train/a", 5), ("train/b", 5), ("test", 4)],
        [],
        "photos/test: expected a subfolder for each class, as in .*photos/train, got none and 4 files",
    ),
    "empty train": (
        [("train", 0), ("test/a", 5)],
        [],
        "photos/train: expected a subfolder for each of at least 2 classes, got none",
    ),
    "no test": (
        [("train/a", 5), ("train/b", 5), ("val/a", 5)],
        [],
        r"photos: expected the folders train and test \(val may stand beside them\), got train, val",
    ),
    "other names": (
        [("Training/a", 5), ("Testing/a", 5)],
        [],
        r"photos: expected the folders train and test \(val may stand beside them\), got Testing, Training",
    ),
    "more beside train and test": (
        [("train/a", 5), ("train/b", 5), ("test/a", 5), ("extra/a", 5)],
        [],
        "photos: expected only val or valid beside train and test, got extra",
    ),
    "two validation folders": (
        [("train/a", 5), ("train/b", 5), ("test/a", 5), ("val/a", 5), ("valid/a", 5)],
        [],
        "photos: expected only val or valid beside train and test, got valid",
    ),
}


@pytest.mark.parametrize(("counts", "texts", "message"), MISTAKES.values(), ids=MISTAKES)
def test_folder_in_no_known_layout_is_refused(counts: list[tuple[str, int]], texts: list[str], message: str, root: Path) -> None:
    make(root, *counts)
    text(root, *texts)
    with pytest.raises(ValueError, match=message):
        check_source(f"folder:{root}", Path("data"))
    with pytest.raises(ValueError, match=message):
        load_data(f"folder:{root}", data_dir=Path("data"))


def test_file_in_place_of_the_folder_is_refused(root: Path) -> None:
    root.write_text("text")
    with pytest.raises(ValueError, match="photos: expected a folder with a subfolder for each class of images, found a file"):
        check_source(f"folder:{root}", Path("data"))


def test_a_message_about_many_classes_stays_short(root: Path) -> None:
    make(root, *[(f"train/{index}", 2) for index in range(10)], ("test/x", 1))
    with pytest.raises(ValueError, match=r"photos/train, 0, 1, 2, 3, 4 and 5 more, got x$"):
        check_source(f"folder:{root}", Path("data"))


def test_checking_a_folder_loads_no_torch(root: Path) -> None:
    make(root, ("a", 5), ("b", 5))
    code = (
        f"import sys; from pathlib import Path; from enas.datasets import check_source; loaded = 'PIL' in sys.modules;"
        f"sizes = check_source({f'folder:{root}'!r}, Path('data'), num_train=4);"
        "print(sizes.train, sizes.valid, sizes.test, loaded, {'torch', 'torchvision'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4 2 2 False set()"
