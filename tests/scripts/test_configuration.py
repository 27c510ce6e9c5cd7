from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from PIL import Image

import scripts.retrain
import scripts.search
from controllers import CONTROLLERS
from controllers.configs import EnasConfig
from controllers.evolution import EvolutionConfig
from enas.configs import RetrainConfig, ScheduleConfig, SharedConfig
from enas.data_configs import AugmentConfig, SplitConfig
from enas.datasets import DATASETS
from enas.paths import PATHS
from enas.rewards import REWARDS
from enas.spaces import SPACES
from enas.spaces.macro import OPERATIONS, MacroConfig
from envs import ENVS
from scripts.configuration import CONFIG_FILE, parse_search, to_yaml
from scripts.presets import PRESETS, enas_macro, enas_micro, enas_ptb
from scripts.search_config import ControllerSettings, SearchConfig

ROOT = Path(__file__).resolve().parents[2]
KNOWN_PRESETS = ", ".join(PRESETS)
KNOWN_SPACES = ", ".join(SPACES)
RNN = "--space rnn --data topics"
ONLY = "a resumed run may change only --epochs, --device and --ranking.table"

UNUSUAL = SearchConfig(
    preset="enas-macro",
    strategy="evolution",
    paths="uniform",
    epochs=7,
    seed=2**40,
    data_dir=Path("some folder/data"),
    device="cpu",
    precision="bf16",
    threads=3,
    child=MacroConfig(num_layers=5, filters=6, keep_prob=1.0, double_filters=True, operations=("max3x3", "conv3x3")),
    shared=SharedConfig(steps_per_epoch=11, learning_rate=1e-3, learning_rate_min=1e-7, grad_clip=None, batch_norm="batch"),
    controller=ControllerSettings(
        enas=EnasConfig(tanh_constant=None, grad_clip=0.25, adam_eps=1e-10, entropy_weight=0.0, skip_target_on="sampled"),
        evolution=EvolutionConfig(kind="generational", reevaluate_parents=False, mutation_probability=1 / 3),
    ),
    schedule=ScheduleConfig(warmup_epochs=2, checkpoint_minutes=0.1),
    split=SplitConfig(num_train=200, num_valid=150),
    augment=AugmentConfig(pad=0, flip=False, cutout=3),
    retrain=RetrainConfig(epochs=0, use_valid=False, weight_decay=0.0, grad_clip=None),
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# What may be chosen.


@pytest.mark.parametrize(("name", "registry"), [("strategy", CONTROLLERS), ("paths", PATHS), ("reward", REWARDS)])
def test_choices_of_a_flag_are_the_entries_of_its_registry(name, registry):
    assert list(get_args(get_type_hints(SearchConfig)[name])) == list(registry)


@pytest.mark.parametrize("registry", [CONTROLLERS, DATASETS, ENVS, PATHS, PRESETS, REWARDS, SPACES])
def test_registries_are_sorted(registry):
    assert list(registry) == sorted(registry)


def test_every_strategy_has_its_section():
    assert {field.name: type(getattr(ControllerSettings(), field.name)) for field in fields(ControllerSettings)} == CONTROLLERS


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_configuration_by_its_own_name(name):
    config = PRESETS[name]()
    assert config.preset == name
    assert config.space in SPACES
    assert type(config.child) is SPACES[config.space]
    source, _, folder = config.data.partition(":")
    assert source in DATASETS
    if folder:
        write_texts(Path(folder))
    assert parse_search(["--preset", name]) == parse_search([f"--preset={name}"]) == config


def write_texts(folder: Path) -> None:
    """The files of the Penn Treebank, with enough words for a minibatch of the authors'."""
    folder.mkdir(parents=True)
    for name in ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"):
        (folder / name).write_text("all is well\n" * 1_500)


def help_of(parse: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        parse()
    assert not caught.value.code
    return plain(capsys.readouterr().out)


def plain(text: str) -> str:
    """A message without its frame, colours and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]", " ", text).split())


def data_help() -> str:
    """The help of --data: names, then names with a path, each in the order of the table."""
    with_path = [f"{name}:{source.takes}" for name, source in DATASETS.items() if source.takes]
    names = [name for name, source in DATASETS.items() if not source.takes]
    return f"Data set: {', '.join([*names, *with_path[:-1]])} or {with_path[-1]}."


def test_help_names_what_may_be_chosen(capsys):
    text = help_of(lambda: parse_search(["--help"]), capsys)
    assert f"Named configuration that the other flags change: {', '.join(PRESETS)}." in text
    assert data_help() in text
    assert f"--strategy {{{','.join(CONTROLLERS)}}}" in text
    assert "--child.num-layers" in text


def test_help_of_retrain_needs_no_architecture(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["retrain", "--help"])
    text = help_of(scripts.retrain.main, capsys)
    assert "--architecture STR" in text
    assert data_help() in text


@pytest.mark.parametrize("module", ["search", "retrain", "evaluate", "rank"])
@pytest.mark.parametrize("arguments", [["--help"], ["--bogus", "3"]])
def test_help_and_mistakes_do_not_wait_for_torch(module, arguments):
    answered_without_torch(module, arguments, 0 if arguments == ["--help"] else 2)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("search", "--data folder:mixed"),
        ("search", "--data folder:text"),
        ("search", "--data npz:mine.npz"),
        ("search", "--shared.batch-size 1098"),
        ("search", "--shared.valid-batch-size 351"),
        ("search", "--retrain.batch-size 1448"),
        ("search", "--split.num-train 5"),
        ("search", "--preset enas-macro --split.num-valid 50000"),
        ("search", "--resume mine"),
        ("search", "--warm-start mine"),
        ("search", "--warm-start missing"),
        ("evaluate", "--run missing --architecture 0"),
        ("evaluate", "--run mine --architecture 0"),
        ("evaluate", "--run ran --architecture [0,5,1]"),
        ("evaluate", "--run ran --architecture ran"),
        ("evaluate", "--run ran --architecture missing.json"),
        ("evaluate", f"--run ran --architecture [{','.join('0' * 21)}] --data-dir ran/{CONFIG_FILE}"),
        ("search", "--space nasbench201 --ranking.table missing.npz"),
        ("rank", "--runs missing --truth table.npz --out new"),
        ("rank", "--runs ran --truth table.npz --out new"),
        ("rank", "--runs ran --truth retrain --num-architectures 3 --out ran/new"),
        ("retrain", "--architecture 0 --child.num-layers 1 --data folder:mixed"),
        ("retrain", "--architecture 0 --child.num-layers 1 --split.num-train 5"),
        ("retrain", "--architecture 0 --child.num-layers 1 --retrain.batch-size 1448"),
        ("retrain", "--architecture answer.json --retrain.batch-size 1448"),
        ("search", "--space rnn --data topics --shared.batch-size 9999"),
    ],
)
def test_mistake_about_data_does_not_wait_for_torch(module, arguments):
    make_folders()
    Path("mine").mkdir()
    Path("mine", CONFIG_FILE).write_text("data: folder:moved\n")
    Path("ran").mkdir()
    Path("ran", CONFIG_FILE).write_text("data: digits\n")
    Path("ran", "checkpoint.pt").write_bytes(b"")
    architecture = {"operations": ["conv3x3"], "skips": [[]]}
    answer = {"space": "macro", "architecture": architecture, "network": {"child": {"num_layers": 1}}}
    Path("answer.json").write_text(json.dumps(answer))
    assert answered_without_torch(module, arguments.split(), 2).startswith("error: ")


def answered_without_torch(module: str, arguments: list[str], code: int) -> str:
    """Run a command line in a process of its own; return what it wrote to standard error."""
    text = f"import atexit, sys; sys.argv = ['x', *{arguments}]; sys.path.insert(0, {str(ROOT)!r})\n"
    text += (
        "atexit.register(lambda: print(sorted({'torch', 'torchvision', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules))))\n"
    )
    text += f"from scripts import {module}; {module}.main()"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    return done.stderr


# Files.


@pytest.mark.parametrize("config", [PRESETS["quickstart"](), enas_macro(), UNUSUAL], ids=["quickstart", "enas-macro", "unusual"])
def test_written_configuration_is_replayed(config):
    Path("config.yaml").write_text(to_yaml(config, threads=3), encoding="utf-8")
    assert parse_search(["--config", "config.yaml"]) == replace(config, threads=3, config=Path("config.yaml"))


def test_written_configuration_holds_every_setting_but_where_it_was():
    Path("config.yaml").write_text(to_yaml(UNUSUAL, threads=5), encoding="utf-8")
    values = scripts.configuration.read_config(Path("config.yaml"))
    assert set(values) == {field.name for field in fields(SearchConfig)} - {"config", "run_dir", "resume"}
    assert values["threads"] == 5
    assert values["child"]["operations"] == ["max3x3", "conv3x3"]
    assert values["controller"]["enas"]["tanh_constant"] is None


def test_flags_override_the_file_which_overrides_the_preset():
    Path("mine.yaml").write_text(
        "preset: enas-macro\nepochs: 4\nchild: {filters: 8, num_layers: 3}\nshared: {learning_rate: 1e-3}\n"
    )
    expected = replace(
        enas_macro(),
        config=Path("mine.yaml"),
        epochs=9,
        child=MacroConfig(filters=8, num_layers=2),
        shared=replace(enas_macro().shared, learning_rate=0.001),
    )
    flags = ["--epochs", "9", "--child.num-layers", "2"]
    for arguments in (["--config", "mine.yaml", *flags], [*flags, "--config", "mine.yaml"], [*flags, "--config=mine.yaml"]):
        assert parse_search(arguments) == expected
    other = parse_search(["--config", "mine.yaml", "--preset", "quickstart"])
    assert (other.preset, other.data, other.epochs) == ("quickstart", "digits", 4)


def test_last_of_equal_flags_counts():
    assert parse_search(["--epochs", "3", "--epochs", "4", "--preset", "quickstart", "--preset", "enas-macro"]) == replace(
        enas_macro(), epochs=4
    )


# Resuming.


@pytest.fixture
def run_folder() -> Path:
    folder = Path("runs/mine")
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).write_text(to_yaml(UNUSUAL, threads=3), encoding="utf-8")
    return folder


def test_resumed_run_has_its_own_settings(run_folder):
    assert parse_search(["--resume", "runs/mine"]) == replace(UNUSUAL, resume=run_folder, run_dir=run_folder)


def test_resumed_run_may_change_epochs_and_device(run_folder):
    expected = replace(UNUSUAL, resume=run_folder, run_dir=run_folder, epochs=99, device="auto")
    assert parse_search(["--resume=runs/mine", "--epochs", "99", "--device", "auto", "--seed", str(2**40)]) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seed 1", f"--seed: {ONLY}; expected 1099511627776, got 1"),
        ("--child.filters 7", f"--child.filters: {ONLY}; expected 6, got 7"),
        (
            "--shared.grad-clip 5",
            f"--shared.grad-clip: {ONLY}; expected None, got 5.0",
        ),
        ("--preset quickstart", f"--preset: {ONLY}; expected enas-macro"),
        ("--run-dir elsewhere", f"--run-dir: {ONLY}; expected None, got elsewhere"),
        ("--config runs/mine/config.yaml", f"--config: {ONLY}"),
        ("--epochs 0", "epochs: expected at least 1, got 0"),
    ],
)
def test_resumed_run_may_change_nothing_else(flags, message, run_folder, refused):
    assert message in refused("search", f"--resume runs/mine {flags}")


# Mistakes.


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str, str], str]:
    """Return a runner of a command line that is wrong: exit status 2, no traceback, no file touched. It returns the message."""
    commands = {"search": scripts.search.main, "retrain": scripts.retrain.main}

    def run(command: str, line: str) -> str:
        before = contents(tmp_path)
        monkeypatch.setattr(sys, "argv", [command, *line.split()])
        with pytest.raises(SystemExit) as caught:
            commands[command]()
        assert caught.value.code == 2
        assert contents(tmp_path) == before
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err + printed.out
        return plain(printed.err)

    return run


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--bogus 3", "Unrecognized options: --bogus, 3"),
        ("--epochs", "--epochs"),
        ("--epochs three", "Error parsing --epochs: invalid literal for int() with base 10: 'three'"),
        ("--epochs 0", "epochs: expected at least 1, got 0"),
        ("--seed -1", "seed: expected at least 0, got -1"),
        ("--threads 0", "threads: expected at least 1, got 0"),
        ("--strategy mine", f"invalid choice 'mine' for argument '--strategy'. Expected one of {tuple(CONTROLLERS)}"),
        ("--device tpu", "invalid choice 'tpu' for argument '--device'"),
        ("--child.filters 1", "child: filters: expected at least 2, got 1"),
        ("--child.operations conv9x9", "conv9x9"),
        ("--shared.learning-rate-min 3", "shared: learning_rate_min: expected a number in [0, 0.05], got 3.0"),
        ("--shared.batch-norm none", "invalid choice 'none' for argument '--shared.batch-norm'"),
        ("--schedule.candidates 0", "schedule: candidates: expected at least 1, got 0"),
        (
            "--schedule.kind two-stage --paths fair",
            "schedule.warmup_epochs: expected at least 1 with two-stage, unless --warm-start",
        ),
        (
            "--schedule.kind two-stage --schedule.warmup-epochs 2",
            "paths: expected fair, sandwich or uniform with two-stage, since the strategy learns nothing while the weights are",
        ),
        (
            "--paths fair --shared.paths-per-step 2",
            "paths_per_step: expected 6, the most choices of a decision, or None with fair",
        ),
        ("--paths sandwich --shared.paths-per-step 2", "paths_per_step: expected at least 3 (smallest, largest, uniform ones)"),
        ("--controller.enas.hidden 0", "hidden: expected a number above 0, got 0"),
        ("--split.num-valid 0", "split: num_valid: expected at least 1, got 0"),
        ("--augment.cutout -1", "augment: cutout: expected at least 0, got -1"),
        ("--retrain.seeds 0", "retrain: seeds: expected at least 1, got 0"),
        (
            "--preset mine",
            f"--preset: expected one of {KNOWN_PRESETS}, got 'mine'",
        ),
        ("--space mine", f"--space: expected one of {KNOWN_SPACES}, got 'mine'"),
        (
            "--data mine",
            "digits, fashion_mnist, folder:DIR, mnist, npz:FILE, ptb:DIR, svhn, text:FILE, topics, got 'mine'",
        ),
        ("--data npz:mine.npz", "mine.npz: expected an .npz file, found nothing there"),
        ("--data folder", "data set: expected folder:DIR, a path after a colon, got 'folder'"),
        ("--data folder:mine", "mine: expected a folder with a subfolder for each class of images, found nothing there"),
        ("--data folder:empty", "empty: expected a subfolder for each of at least 2 classes, got none and 0 files"),
        ("--data folder:text", "text/a/0.png: expected a whole image (PNG, by its suffix), got a file that is no image"),
        ("--data folder:mixed", "mixed: expected images of one size, or --split.image-size N to make them N x N, got a/0.png"),
        (
            "--data folder:mixed --split.image-size 8",
            "shared.batch_size: expected at most 18, the number of images, got 64",
        ),
        (
            "--data folder:mixed --split.image-size 8 --shared.batch-size 8 --split.num-valid 1",
            "num_valid: expected 2 to 18 of the 20 training images, got 1",
        ),
        ("--split.image-size 0", "split: image_size: expected at least 1, got 0"),
        (
            "--preset enas-macro --shared.batch-size 45001",
            "shared.batch_size: expected at most 45000, the number of images, got 45001",
        ),
        (
            "--preset enas-macro --split.num-train 9",
            "num_train: expected 10 to 45000 of the 45000 training images, got 9",
        ),
        ("--data-dir file", "data_dir: expected a folder, got file, where file is a file"),
        ("--config missing.yaml", "missing.yaml: expected a readable configuration file, got"),
        ("--config .", ".: expected a readable configuration file, got"),
        ("--resume missing", "--resume: expected the folder of a run with a config.yaml, got missing"),
        ("--resume empty", "--resume: expected the folder of a run with a config.yaml, got empty"),
        ("--run-dir used", "--run-dir: expected a new folder, got used, which holds a run; use --resume used to go on"),
        ("--run-dir file", "--run-dir: expected a folder, got file, which is a file"),
        ("--run-dir new --shared.batch-size 5000", "shared.batch_size: expected at most 1097, the number of images, got 5000"),
        ("--run-dir new --shared.valid-batch-size 351", "shared.valid_batch_size: expected at most 350, the number of images"),
        ("--run-dir new --retrain.batch-size 5000", "retrain.batch_size: expected at most 1447, the number of images, got 5000"),
        (
            "--retrain.batch-size 1098 --retrain.use-valid False",
            "retrain.batch_size: expected at most 1097, the number of images, got 1098",
        ),
        ("--run-dir new --split.num-train 5", "num_train: expected 10 to 1097 of the 1097 training images, got 5"),
        ("--data topics", "data: expected a data set of images, which networks of the space macro read, got topics, of text"),
        ("--space rnn", "data: expected a data set of text, which networks of the space rnn read, got digits, of images"),
        (f"{RNN} --split.image-size 8", "split.image_size: expected None with topics, a text, got 8"),
        (f"{RNN} --augment.cutout 2", "augment.cutout: expected 0 with a text, got 2"),
        (f"{RNN} --text.level page", "invalid choice 'page' for argument '--text.level'"),
        (f"{RNN} --split.num-train 35", "text.bptt: expected at most 34, since topics has 35 tokens to train on, got 35"),
        (f"{RNN} --split.num-valid 400", "shared.valid_batch_size: expected at most 11, the number of sequences of 35 tokens"),
        ("--space rnn --data ptb:mine", "mine: expected a folder with ptb.train.txt, ptb.valid.txt, ptb.test.txt, found nothing"),
        ("--space rnn --data text:empty", "empty: expected a text file, found a folder"),
        ("--space rnn --data text:file", "file: expected a text of at least 20 tokens, got 2"),
    ],
)
def test_mistake_on_the_command_line_is_named(line, message, refused):
    Path("file").write_text("text")
    Path("empty").mkdir()
    Path("used").mkdir()
    Path("used/config.yaml").write_text("epochs: 3\n")
    make_folders()
    assert message in refused("search", line)


def test_minibatch_of_a_retraining_that_is_skipped_may_have_any_size():
    assert parse_search(["--retrain.epochs", "0", "--retrain.batch-size", "5000"]).retrain.batch_size == 5000


def make_folders() -> None:
    """`text`: texts called .png; `mixed`: images of two sizes. Both have two classes, to be split into 20 and 4 images."""
    for folder, name, index in product(["text", "mixed"], "ab", range(12)):
        file = Path(folder, name, f"{index}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        if folder == "text":
            file.write_text("no image")
        else:
            Image.new("RGB", (9 + index % 2, 9)).save(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "mine.yaml: expected a mapping of settings, got nothing"),
        ("- epochs\n- 3\n", "mine.yaml: expected a mapping of settings, got list"),
        ("epochs", "mine.yaml: expected a mapping of settings, got str"),
        ("epochs: [3", "mine.yaml: expected YAML, got while parsing a flow sequence"),
        ("epochs: !!python/object/apply:os.getcwd []", "mine.yaml: expected YAML, got could not determine a constructor"),
        ("child: [3]", "mine.yaml: child: expected a mapping, got list"),
        ("controller: enas", "mine.yaml: controller: expected a mapping, got str"),
        ("controller: {enas: 3}", "--controller.enas"),
        ("bogus: 3", "Unrecognized options: --bogus, 3"),
        ("child: {bogus: 3}", "Unrecognized options: --child.bogus, 3"),
        ("epochs: three", "Error parsing --epochs: invalid literal for int() with base 10: 'three'"),
        ("epochs: 1.5", "Error parsing --epochs"),
        ("epochs: null", "Error parsing --epochs"),
        ("epochs: [1, 2]", "The settings were read from mine.yaml"),
        ("child: {filters: 1}", "child: filters: expected at least 2, got 1"),
        (
            "preset: mine",
            f"--preset: expected one of {KNOWN_PRESETS}, got 'mine'",
        ),
        (
            "preset: [enas-macro]",
            f"--preset: expected one of {KNOWN_PRESETS}, got ['enas-macro']",
        ),
        ("space: null", f"--space: expected one of {KNOWN_SPACES}, got None"),
        ("data: null", "data set: expected one of"),
    ],
)
def test_mistake_in_a_file_is_named(content, message, refused):
    Path("mine.yaml").write_text(content)
    text = refused("search", "--config mine.yaml")
    assert message in text
    assert "mine.yaml" in text or "--" in message or "data set" in message


def test_file_that_is_no_text_is_named(refused):
    Path("mine.yaml").write_bytes(b"\xff\xfe\x00\x80")
    assert "mine.yaml: expected a readable configuration file, got 'utf-8' codec can't decode" in refused(
        "search", "--config mine.yaml"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--run-dir new",
            "--architecture: expected a run folder, a file, an arc string, a cell's text or a list of tokens, got nothing",
        ),
        ("--architecture 00 --run-dir new --seed -1", "seed: expected at least 0, got -1"),
        (
            "--architecture missing.json",
            "--architecture: expected a run folder, a file, an arc string, a cell's text or a list of tokens, got 'missing.json'",
        ),
        ("--architecture empty", "empty/best_architecture.json: expected the answer of a finished search, got no such file"),
        ("--architecture text.json", "text.json: expected a JSON file, got"),
        ("--architecture other.json", "other.json: expected the answer of a search; it lacks space, architecture, network"),
        ("--architecture list.json", "macro: expected L (L + 1) / 2 numbers for L layers (1, 3, 6, 10, ...), got 2"),
        ("--architecture lists.json", "--architecture: expected one architecture, got 2 in lists.json"),
        ("--architecture [[0,5,1],[1]]", "--architecture: expected one architecture, got 2 in [[0,5,1],[1]]"),
        ("--architecture [0,5", "--architecture: expected a list of tokens such as [0, 5, 1], got '[0,5': Expecting"),
        ("--architecture [0,1.5,0]", "--architecture: expected whole numbers as tokens, got 1.5 in '[0,1.5,0]'"),
        ("--architecture [true]", "--architecture: expected whole numbers as tokens, got True in '[true]'"),
        ("--architecture [0,5,2]", "--architecture [0, 5, 2]: layer_1/skip_0: expected a token in 0..1, got 2"),
        ("--architecture binary.txt", "--architecture: expected a text file, got binary.txt"),
        ("--architecture 01 --child.num-layers 0", "num_layers: expected at least 1, got 0"),
        ("--architecture 7 --child.num-layers 1", "layer_0/op: expected a token in 0..5, got 7"),
        ("--architecture 0 --space mine", f"--space: expected one of {KNOWN_SPACES}, got 'mine'"),
        ("--architecture 0 --child.num-layers 1 --data mine", "data set: expected one of"),
        ("--architecture 0 --child.num-layers 1 --retrain.epochs 0", "--retrain.epochs: expected at least 1, got 0"),
        (
            "--architecture 0 --child.num-layers 1 --retrain.batch-size 5000",
            "retrain.batch_size: expected at most 1447, the number of images, got 5000",
        ),
        ("--architecture 0 --child.num-layers 1 --split.num-train 5", "num_train: expected 10 to 1097"),
        (
            "--architecture 0 --child.num-layers 1 --data folder:mixed",
            "mixed: expected images of one size, or --split.image-size",
        ),
        (
            "--architecture 0 --child.num-layers 1 --data folder:mixed --split.image-size 8 --retrain.batch-size 21",
            "retrain.batch_size: expected at most 20, the number of images, got 21",
        ),
        ("--architecture 0 --child.num-layers 1 --run-dir used", "--run-dir: expected a new folder or that of the same command"),
    ],
)
def test_mistake_in_retraining_is_named(line, message, refused):
    files = {
        "text.json": b"0 1",
        "other.json": b"{}",
        "list.json": b"[0, 1]",
        "lists.json": b"[[0], [1]]",
        "binary.txt": b"\xff\xfe\x00\x80",
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
    for name in ("empty", "used"):
        Path(name).mkdir()
    Path("used/retrain.yaml").write_text("architecture: other\n")
    make_folders()
    assert message in refused("retrain", line)


@pytest.mark.parametrize("separator", ["\n", " "])
def test_arc_string_may_be_longer_than_a_file_name(separator):
    text = separator.join(["0"] * 300)
    command, stored = scripts.retrain.parse_retrain(["--architecture", text, "--run-dir", "new", "--child.num-layers", "24"])
    architecture = stored.for_child(command.child)
    assert architecture.operations == ("conv3x3",) * 24


def test_list_of_tokens_is_the_arc_string_of_its_numbers():
    Path("tokens.json").write_text("[0, 5, 1]")
    commands = {
        given: scripts.retrain.parse_retrain(["--architecture", given]) for given in ("0 5 1", "[0, 5, 1]", "tokens.json")
    }
    (first, stored), *others = commands.values()
    assert stored.architecture.operations == ("conv3x3", "max3x3")
    assert stored.architecture.skips == ((), (0,))
    for command, other in others:
        assert other == stored
        assert replace(command, architecture=first.architecture) == first


# The authors' values.


def items(value: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        name = f"{prefix}{field.name}"
        found |= items(item, f"{name}.") if hasattr(item, "__dataclass_fields__") else {name: item}
    return found


AUTHORS = {  # scripts/cifar10_macro_search.sh, and its flags' defaults in src/cifar10/main.py
    "data": "cifar10",
    "epochs": 310,
    "strategy": "enas",
    "paths": "controller",
    "reward": "accuracy",
    "child.num_layers": 12,
    "child.filters": 36,
    "child.keep_prob": 0.9,
    "child.double_filters": False,
    "child.operations": OPERATIONS,
    "shared.batch_size": 128,
    "shared.steps_per_epoch": None,
    "shared.paths_per_step": None,  # 1
    "shared.learning_rate": 0.05,
    "shared.learning_rate_min": 0.0005,
    "shared.restart_epochs": 10,
    "shared.restart_factor": 2,
    "shared.momentum": 0.9,
    "shared.weight_decay": 2 * 2.5e-4,
    "shared.grad_clip": 5.0,
    "shared.valid_batch_size": 128,  # build_valid_rl in src/cifar10/general_child.py
    "shared.reward_batch": "own",
    "shared.batch_norm": "running",
    "controller.enas.hidden": 64,
    "controller.enas.learning_rate": 0.001,
    "controller.enas.adam_beta1": 0.0,
    "controller.enas.adam_beta2": 0.999,
    "controller.enas.adam_eps": 1e-3,
    "controller.enas.tanh_constant": 1.5,
    "controller.enas.temperature": 1.0,
    "controller.enas.entropy_weight": 1e-4,
    "controller.enas.baseline_decay": 0.99,
    "controller.enas.baseline_update": "before",
    "controller.enas.baseline_start": "zero",
    "controller.enas.skip_target": 0.4,
    "controller.enas.skip_weight": 0.8,
    "controller.enas.skip_target_on": "authors",
    "controller.enas.grad_clip": None,
    "schedule.warmup_epochs": 0,
    "schedule.controller_steps": 50,
    "schedule.architectures_per_step": 20,
    "split.num_train": None,
    "split.num_valid": None,
    "augment.pad": None,
    "augment.flip": None,
    "augment.cutout": 0,
    "retrain.epochs": 310,  # scripts/cifar10_macro_final.sh
    "retrain.batch_size": 100,
    "retrain.learning_rate": 0.05,
    "retrain.learning_rate_min": 0.001,
    "retrain.momentum": 0.9,
    "retrain.weight_decay": 2 * 2e-4,
    "retrain.use_valid": True,
    "retrain.restart_epochs": 10,
}

AUTHORS_MICRO = {  # scripts/cifar10_micro_search.sh where it differs, scripts/cifar10_micro_final.sh for retraining
    "space": "micro",
    "epochs": 150,
    "child.num_layers": 6,
    "child.num_nodes": 5,
    "child.filters": 20,
    "child.keep_prob": 0.9,
    "child.aux_head": True,
    "child.operations": ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity"),
    "child.final": "searched",
    "child.op_tanh_reduce": 2.5,
    "child.soft_bias": 10.0,  # micro_controller.py
    "child.fixed_bias": 0.25,
    "shared.batch_size": 160,
    "shared.weight_decay": 2 * 1e-4,
    "shared.valid_batch_size": 160,  # build_valid_rl in src/cifar10/micro_child.py
    "shared.batch_norm": "batch",  # is_training is True where no architecture is fixed
    "shared.aux_weight": 0.4,
    "controller.enas.learning_rate": 0.0035,
    "controller.enas.tanh_constant": 1.1,
    "controller.enas.skip_weight": 0.0,  # there are none
    "schedule.controller_steps": 30,
    "schedule.architectures_per_step": 10,
    "retrain.epochs": 630,
    "retrain.batch_size": 144,
    "retrain.learning_rate_min": 1e-4,
    "retrain.weight_decay": 2 * 2e-4,
    "retrain.restart_epochs": 10,
    "retrain.drop_path_keep_prob": 0.6,
    "retrain.aux_weight": 0.4,
}


def test_preset_of_the_paper_has_the_authors_values():
    values = items(enas_macro())
    assert {name: values[name] for name in AUTHORS} == AUTHORS


def test_micro_preset_of_the_paper_has_the_authors_values():
    values = items(enas_micro())
    expected = {name: value for name, value in AUTHORS.items() if not name.startswith("child.")} | AUTHORS_MICRO
    assert {name: values[name] for name in expected} == expected


AUTHORS_PTB = {  # enas_lm/src/child.py and controller.py
    "child.num_nodes": 8,
    "child.hidden": 200,
    "child.functions": ("tanh", "relu", "sigmoid", "identity"),
    "child.word_dropout": 0.1,  # drop_e
    "child.embedding_dropout": 0.2,  # drop_i
    "child.input_dropout": 0.75,  # drop_x
    "child.state_dropout": 0.25,  # drop_l
    "child.output_dropout": 0.75,  # drop_o
    "child.activation_penalty": 0.0,
    "child.slowness_penalty": 1.0,
    "child.init_range": 0.04,
    "text.bptt": 35,
    "text.random_lengths": True,
    "epochs": 600,
    "paths": "controller",
    "shared.batch_size": 128,
    "shared.paths_per_step": None,
    "shared.learning_rate": 20.0,
    "shared.learning_rate_min": 20.0,
    "shared.momentum": 0.0,
    "shared.grad_clip": 0.1,
    "shared.valid_batch_size": 128,
    "shared.reward_batches": 1,
    "shared.reward_batch": "own",
    "strategy": "enas",
    "controller.enas.hidden": 64,
    "controller.enas.init_range": 0.01,
    "controller.enas.temperature": 5.0,
    "controller.enas.tanh_constant": 2.25,
    "controller.enas.learning_rate": 5e-5,
    "controller.enas.adam_beta1": 0.9,  # tf.train.AdamOptimizer's own
    "controller.enas.adam_beta2": 0.999,
    "controller.enas.adam_eps": 1e-8,
    "controller.enas.baseline_decay": 0.999,
    "controller.enas.baseline_start": "zero",
    "controller.enas.entropy_weight": 1e-5,
    "controller.enas.skip_weight": 0.0,  # there are none
    "schedule.controller_steps": 25,
    "schedule.architectures_per_step": 10,  # controller_num_aggregate
    "reward": "perplexity",
    "objective.perplexity_scale": 80.0,
}


def test_text_preset_of_the_authors_has_their_values():
    values = items(enas_ptb())
    assert {name: values[name] for name in AUTHORS_PTB} == AUTHORS_PTB


def test_data_of_the_paper_is_split_and_varied_as_the_authors_do():
    source = DATASETS["cifar10"]
    assert (source.num_valid, source.valid_rule, source.flip) == (5000, "last", True)


def test_operations_of_the_paper_are_in_the_authors_order():
    assert OPERATIONS == ("conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3")
