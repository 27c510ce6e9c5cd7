"""Both commands over folders of images that no code knows, as a user gives them: by the command line alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from enas.datasets import check_source
from enas.datasets.source import SplitSizes
from scripts.configuration import load_saved

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SHAPES = {"cross": (60, 90, 220), "disc": (220, 60, 60), "square": (70, 200, 80)}
SMALL = (
    "--child.num-layers 3 --child.filters 4 --epochs 2 --threads 1 --device cpu "
    "--shared.batch-size 12 --shared.valid-batch-size 12 --shared.batch-norm batch --shared.steps-per-epoch 20 "
    "--schedule.controller-steps 2 --schedule.architectures-per-step 4 --schedule.candidates 4 "
    "--retrain.epochs 6 --retrain.batch-size 12 --retrain.seeds 1 --retrain.random 1"
)


def draw(shape: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A coloured shape somewhere on a grey ground, both noisy."""
    image = Image.new("RGB", size, (128, 128, 128))
    pen, side = ImageDraw.Draw(image), min(size)
    x, y = (np.array(size) / 2 + rng.uniform(-0.15, 0.15, 2) * side).tolist()
    radius = side * rng.uniform(0.2, 0.35)
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "disc":
        pen.ellipse(box, fill=SHAPES[shape])
    elif shape == "square":
        pen.rectangle(box, fill=SHAPES[shape])
    else:
        pen.rectangle((x - radius, y - radius / 3, x + radius, y + radius / 3), fill=SHAPES[shape])
        pen.rectangle((x - radius / 3, y - radius, x + radius / 3, y + radius), fill=SHAPES[shape])
    noise = rng.normal(0, 25, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def write(folder: Path, num_images: int, sizes: list[tuple[int, int]], suffixes: list[str], *, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for index in range(num_images):
            image = draw(shape, sizes[index % len(sizes)], rng)
            image.save(folder / shape / f"{index}.{suffixes[index % len(suffixes)]}")


def command(module: str, line: str, folder: Path) -> str:
    """Run a command as a user does, in a folder of the user's own; return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-W", "error::UserWarning", "-m", f"scripts.{module}", *line.split()]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Searched:
    """A finished search in the user's folder, which also holds the images."""

    user: Path
    data: str
    image_size: int | None
    side: int
    sizes: SplitSizes


@pytest.fixture(scope="module", params=["classes of 64 x 64", "splits of mixed sizes at 96 x 96"])
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    user = tmp_path_factory.mktemp("user")
    if request.param.startswith("classes"):
        write(user / "shapes", 50, [(64, 64)], ["png"], seed=1)
        case = Searched(user, "folder:shapes", None, 64, SplitSizes(train=108, valid=12, test=30))
    else:
        sizes = [(96, 96), (150, 100), (80, 120), (300, 200)]
        write(user / "photos" / "train", 40, sizes, ["jpg", "png", "bmp"], seed=2)
        write(user / "photos" / "test", 10, sizes, ["jpeg", "tif"], seed=3)
        case = Searched(user, "folder:photos", 96, 96, SplitSizes(train=108, valid=12, test=30))
    flag = "" if case.image_size is None else f" --split.image-size {case.image_size}"
    command("search", f"--data {case.data}{flag} --run-dir run {SMALL}", user)
    return case


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def test_answer_takes_the_images_as_they_are_and_knows_their_classes(searched):
    network = read(searched.user / "run" / "best_architecture.json")["network"]
    assert network["input_shape"] == [3, searched.side, searched.side]
    assert network["num_classes"] == 3


def test_run_records_where_the_images_are_and_how_they_were_resized(searched, monkeypatch):
    monkeypatch.chdir(searched.user)
    config = load_saved(Path("run"))
    assert (config.data, config.split.image_size) == (searched.data, searched.image_size)
    assert check_source(config.data, config.data_dir, image_size=config.split.image_size) == searched.sizes


def test_networks_trained_from_scratch_know_the_shapes(searched):
    results = [read(file)["result"] for file in sorted((searched.user / "run" / "retrain").glob("*/result.json"))]
    assert len(results) == 2
    assert max(result["test_accuracy"] for result in results) > 0.8  # chance is a third
    assert all(result["test_accuracy"] > 0.5 for result in results)


def test_search_learned_from_its_rewards_more_than_chance(searched):
    assert read(searched.user / "run" / "best_architecture.json")["valid_accuracy"] > 0.5


def test_answer_is_retrained_on_the_same_images_with_no_word_about_them(searched):
    command("retrain", "--architecture run --run-dir again --retrain.epochs 6 --retrain.random 0", searched.user)
    (file,) = (searched.user / "again").glob("*/result.json")
    assert read(file)["result"]["test_accuracy"] > 0.5
    first = read(searched.user / "run" / "retrain" / "searched-0" / "result.json")["result"]
    assert read(file)["result"]["parameters"] == first["parameters"]
