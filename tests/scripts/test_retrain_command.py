from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import scripts.retrain
from enas.configs import RetrainConfig
from enas.data_configs import AugmentConfig, SplitConfig, TextConfig
from enas.datasets import find_looks
from enas.published import PUBLISHED
from enas.spaces.macro import MacroConfig, MacroSpace
from enas.spaces.micro import MicroConfig, MicroSpace
from enas.spaces.rnn import RnnConfig
from scripts.architectures import read_architecture, read_written
from scripts.configuration import CONFIG_FILE, to_yaml
from scripts.presets import quickstart
from scripts.retrain import RetrainCommand, parse_retrain
from scripts.retrain_presets import RETRAIN_PRESETS, RetrainPreset, enas_macro_final, enas_micro_final, enas_ptb_final

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_POOLING = ("conv3x3", "sep3x3", "conv5x5", "sep5x5")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(line: str) -> RetrainCommand:
    return parse_retrain(line.split())[0]


def answer_in(folder: str, child: MacroConfig | MicroConfig | RnnConfig, **settings: Any) -> None:
    """A finished search's folder, as far as `--architecture` reads it."""
    space = child.make_space()
    Path(folder).mkdir()
    record = {
        "space": space.name,
        "architecture": space.decode(space.num_choices - 1).to_json(),
        "network": {"child": asdict(child)},
    }
    Path(folder, "best_architecture.json").write_text(json.dumps(record))
    config = replace(quickstart(), space=space.name, child=child, **settings)
    Path(folder, CONFIG_FILE).write_text(to_yaml(config, threads=3))


# Names of published architectures.


@pytest.mark.parametrize("name", PUBLISHED)
def test_name_of_a_published_architecture_tells_its_space_and_depth(name):
    command, stored = parse_retrain(["--architecture", name])
    assert command.space == stored.space == PUBLISHED[name].space
    space = command.child.make_space()
    assert stored.for_child(command.child) == space.from_text(PUBLISHED[name].text)


def test_name_means_the_published_architecture_also_beside_a_folder_of_that_name():
    answer_in("enas-micro", MacroConfig(num_layers=3, filters=4))
    assert parse("--architecture enas-micro").space == "micro"
    assert parse("--architecture ./enas-micro").child == MacroConfig(num_layers=3, filters=4)
    assert read_written("./enas-micro")[0].name == "enas-micro"  # as a path prints


def test_published_architecture_is_read_by_names_where_a_run_counts_other_operations():
    (written,) = read_written("enas-macro")
    fewer = MacroSpace(24, operations=("max3x3", "sep5x5", "conv5x5", "sep3x3", "conv3x3"))
    expected = MacroConfig(num_layers=24).make_space().from_text(PUBLISHED["enas-macro"].text)
    assert written.member_of(fewer) == expected
    assert fewer.encode(expected)[:3] == (4, 1, 0)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (MacroSpace(24), "--architecture enas-micro: expected an architecture of the macro space, got one of micro"),
        (MicroSpace(4), "--architecture enas-micro: normal: expected 4 nodes, got 5"),
        (
            MicroSpace(5, operations=("avg3x3", "sep3x3")),
            "--architecture enas-micro: normal/node_1: expected two operations out of",
        ),
    ],
)
def test_published_architecture_that_is_no_member_of_a_run_is_named(space, message):
    (written,) = read_written("enas-micro")
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        written.member_of(space)


# Presets.


def values_of(value: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= values_of(item, f"{prefix}{name}.") if isinstance(item, dict) else {f"{prefix}{name}": item}
    return found


AUTHORS: dict[Callable[[], RetrainPreset], dict[str, Any]] = {
    enas_macro_final: {  # scripts/cifar10_macro_final.sh
        "space": "macro",
        "data": "cifar10",
        "child.num_layers": 24,
        "child.filters": 96,
        "child.keep_prob": 0.5,
        "child.double_filters": True,
        "child.operations": WITHOUT_POOLING,
        "child.final": "authors",
        "retrain.epochs": 310,
        "retrain.batch_size": 100,
        "retrain.learning_rate": 0.05,
        "retrain.learning_rate_min": 0.001,
        "retrain.momentum": 0.9,
        "retrain.weight_decay": 2 * 2e-4,
        "retrain.restart_epochs": 10,
        "retrain.drop_path_keep_prob": 1.0,
        "retrain.use_valid": True,
        "split.num_train": None,
        "split.num_valid": None,
        "augment.pad": None,
        "augment.flip": None,
        "augment.cutout": 0,
    },
    enas_micro_final: {  # scripts/cifar10_micro_final.sh
        "space": "micro",
        "data": "cifar10",
        "child.num_layers": 15,
        "child.num_nodes": 5,
        "child.filters": 36,
        "child.keep_prob": 0.8,
        "child.aux_head": True,
        "child.final": "authors",
        "retrain.epochs": 630,
        "retrain.batch_size": 144,
        "retrain.learning_rate": 0.05,
        "retrain.learning_rate_min": 0.0001,
        "retrain.momentum": 0.9,
        "retrain.weight_decay": 2 * 2e-4,
        "retrain.restart_epochs": 10,
        "retrain.aux_weight": 0.4,
        "retrain.drop_path_keep_prob": 0.6,
        "retrain.use_valid": True,
        "split.num_train": None,
        "split.num_valid": None,
        "augment.pad": None,
        "augment.flip": None,
        "augment.cutout": 16,
    },
    enas_ptb_final: {  # enas_lm/src/fixed_lib.py
        "space": "rnn",
        "child.num_nodes": 8,
        "child.hidden": 800,
        "child.functions": ("tanh", "relu", "sigmoid", "identity"),
        "child.word_dropout": 0.125,  # drop_e
        "child.embedding_dropout": 0.175,  # drop_i
        "child.input_dropout": 0.725,  # drop_x
        "child.state_dropout": 0.225,  # drop_l
        "child.output_dropout": 0.75,  # drop_o
        "child.activation_penalty": 0.7,
        "child.slowness_penalty": 0.0,
        "child.init_range": 0.05,
        "text.bptt": 35,
        "text.random_lengths": True,
        "retrain.epochs": 3000,
        "retrain.batch_size": 64,
        "retrain.learning_rate": 20.0,
        "retrain.learning_rate_min": 20.0,
        "retrain.momentum": 0.0,
        "retrain.weight_decay": 2 * 8e-7,
        "retrain.grad_clip": 0.25,
        "retrain.average_window": 10,  # best_valid_ppl_threshold
        "retrain.use_valid": False,
    },
}
PUBLISHED_FOR = {"enas-macro-final": "enas-macro", "enas-micro-final": "enas-micro", "enas-ptb-final": "enas-rnn"}


@pytest.mark.parametrize("make", AUTHORS)
def test_preset_has_the_authors_values(make):
    values = values_of(asdict(make()))
    assert {name: values[name] for name in AUTHORS[make]} == AUTHORS[make]


def test_presets_are_sorted_and_each_is_for_a_published_architecture():
    assert list(RETRAIN_PRESETS) == sorted(RETRAIN_PRESETS) == list(PUBLISHED_FOR)
    for name, make in RETRAIN_PRESETS.items():
        assert make().space == PUBLISHED[PUBLISHED_FOR[name]].space


@pytest.mark.parametrize("name", ["enas-macro-final", "enas-micro-final"])
def test_last_cycle_of_the_learning_rate_ends_with_the_training(name):
    retrain = RETRAIN_PRESETS[name]().retrain
    ends = np.cumsum([10 * 2**cycle for cycle in range(10)])
    assert retrain.epochs in ends


@pytest.mark.parametrize(
    ("name", "width", "data"),
    [("enas-macro-final", "filters", "svhn"), ("enas-micro-final", "filters", "svhn"), ("enas-ptb-final", "hidden", "topics")],
)
def test_preset_is_the_whole_command_but_for_the_flags_beside_it(name, width, data):
    preset, published = RETRAIN_PRESETS[name](), PUBLISHED_FOR[name]
    command = parse(f"--architecture {published} --preset {name} --retrain.seeds 3 --child.{width} 12 --data {data} --seed 5")
    assert command.preset == name
    assert command.child == replace(preset.child, **{width: 12})
    assert command.retrain == replace(preset.retrain, seeds=3)
    assert (command.split, command.text, command.augment) == (preset.split, preset.text, preset.augment)
    assert (command.data, command.seed, command.threads) == (data, 5, None)
    if name != "enas-ptb-final":  # whose data nobody can download
        assert parse(f"--architecture {published} --preset={name}").data == preset.data == "cifar10"


def test_preset_tells_the_space_of_an_arc_string():
    text = PUBLISHED["enas-micro"].text
    command, stored = parse_retrain(["--architecture", text, "--preset", "enas-micro-final"])
    assert command.space == "micro"
    assert stored.architecture == read_architecture("enas-micro", space="macro").architecture


def test_preset_keeps_what_the_run_searched_in_and_its_seed_and_machine():
    child = MicroConfig(num_layers=2, num_nodes=3, filters=4, operations=("identity", "sep3x3"))
    answer_in("run", child, seed=7, precision="bf16", data_dir=Path("elsewhere"), data="svhn", augment=AugmentConfig(cutout=2))
    command = parse("--architecture run --preset enas-micro-final")
    assert command.child == replace(enas_micro_final().child, num_nodes=3, operations=("sep3x3", "identity"))
    assert (command.seed, command.precision, command.data_dir, command.threads) == (7, "bf16", Path("elsewhere"), 3)
    assert (command.data, command.split, command.augment) == ("cifar10", SplitConfig(), AugmentConfig(cutout=16))


def test_preset_for_texts_keeps_nodes_and_functions_of_the_run():
    child = RnnConfig(num_nodes=3, hidden=4, functions=("sigmoid", "tanh"))
    answer_in("run", child, data="topics", text=TextConfig(vocabulary=50))
    command = parse("--architecture run --preset enas-ptb-final --data topics")
    assert command.child == replace(enas_ptb_final().child, num_nodes=3, functions=("tanh", "sigmoid"))
    assert command.text == TextConfig()


def test_random_architectures_of_the_macro_preset_have_no_pooling():
    answer_in("run", MacroConfig(num_layers=3, operations=("max3x3", "conv5x5", "sep3x3")))
    assert parse("--architecture run --preset enas-macro-final").child == replace(
        enas_macro_final().child, operations=("sep3x3", "conv5x5")
    )


def test_without_a_preset_the_runs_own_settings_are_the_defaults():
    answer_in("run", MacroConfig(num_layers=3, filters=4), retrain=RetrainConfig(epochs=3), augment=AugmentConfig(cutout=2))
    command = parse("--architecture run")
    assert (command.preset, command.count_only) == (None, False)
    assert (command.retrain, command.augment) == (RetrainConfig(epochs=3), AugmentConfig(cutout=2))
    assert parse("--architecture 0").retrain == quickstart().retrain


# The size of the network.


def run(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command; return standard output."""
    monkeypatch.setattr(sys, "argv", ["retrain", *line.split()])
    scripts.retrain.main()
    return capsys.readouterr().out


def child_of(line: str) -> Any:
    """The network itself, on PyTorch's meta device."""
    import torch

    command, stored = parse_retrain(line.split())
    looks = find_looks(command.data, command.data_dir)
    assert looks is not None
    with torch.device("meta"):
        return command.child.make_child(**looks._asdict(), architecture=stored.for_child(command.child))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        ("enas-macro", 42.56, "21.3 M (ENAS paper, quoted from memory, not confirmed in a source)"),
        ("enas-micro", 3.89, "4.6 M (ENAS paper as quoted by DARTS' table), 4.2 M (rerun by DARTS' authors)"),
    ],
)
def test_count_is_that_of_the_network_beside_the_published_one(name, parameters, published, monkeypatch, capsys):
    line = f"--architecture {name} --preset {name}-final"
    output = run(f"{line} --count-only True", monkeypatch, capsys)
    child = child_of(line)
    total = sum(weights.numel() for weights in child.parameters())
    head = child.auxiliary_head
    auxiliary = 0 if head is None else sum(weights.numel() for weights in head.parameters())
    assert round((total - auxiliary) / 1e6, 2) == parameters
    size, *others = output.splitlines()
    count, _, after = size.partition(" parameters")
    assert count == f"{total - auxiliary:,}"
    assert after.startswith(f" (+ {auxiliary:,} of the auxiliary head while training), " if auxiliary else ", ")
    assert after.endswith(f" multiply-adds for one image; published for {PUBLISHED[name].network}: {published}")
    assert others[0].startswith(f"published test error of {PUBLISHED[name].network}: {PUBLISHED[name].test_results[0].value} (")
    assert others[1] == PUBLISHED[name].note
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("enas-macro", "published for 24 layers of 96 filters, CIFAR-10: 21.3 M ("),
        ("enas-micro", "published for 15 + 2 cells, 36 filters, CIFAR-10: 4.6 M ("),
    ],
)
def test_count_of_another_network_does_not_pass_for_the_published_one(name, published, monkeypatch, capsys):
    output = run(f"--architecture {name} --child.filters 4 --count-only True", monkeypatch, capsys)
    assert f" multiply-adds for one image; {published}" in output.splitlines()[0]


def test_architecture_that_was_not_published_has_its_count_alone(monkeypatch, capsys):
    (line,) = run("--architecture 0 --child.filters 4 --count-only True", monkeypatch, capsys).splitlines()
    assert line.endswith(" multiply-adds for one image")


def test_size_is_printed_before_data_are_looked_for(monkeypatch, capsys):
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no network")

    monkeypatch.setattr("enas.datasets.load_data", refuse)
    monkeypatch.setattr(sys, "argv", ["retrain", "--architecture", "0", "--child.filters", "4", "--data", "cifar10"])
    with pytest.raises(SystemExit) as caught:
        scripts.retrain.main()
    printed = capsys.readouterr()
    assert (caught.value.code, printed.err) == (2, "error: no network\n")
    assert "multiply-adds for one image" in printed.out
    assert not Path("runs").exists()


def test_count_of_a_users_own_file_needs_no_images(monkeypatch, capsys):
    images, labels = np.zeros((40, 12, 12, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez("mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    line = "--architecture 0 --child.filters 4 --data npz:mine.npz --retrain.batch-size 8"
    output = run(f"{line} --count-only True", monkeypatch, capsys)
    expected = sum(weights.numel() for weights in child_of(line).parameters())
    assert output.startswith(f"{expected:,} parameters, ")
    assert [path.name for path in Path.cwd().iterdir()] == ["mine.npz"]


@pytest.mark.parametrize("name", ["darts-rnn", "enas-rnn"])
def test_count_of_a_recurrent_cell_is_told_by_the_token_beside_the_published_figures(name, monkeypatch, capsys):
    line = f"--architecture {name} --child.hidden 8 --text.vocabulary 50 --count-only True"
    size, results, note = run(line, monkeypatch, capsys).splitlines()
    weights = 50 * 8 + 16 * 16 + 8 * 8 * 16
    published = PUBLISHED[name]
    counts = f"{weights:,} parameters, {weights:,} multiply-adds for one token"
    assert size.startswith(f"{counts}; published for {published.network}: {published.parameters[0].value} (")
    assert results.startswith(f"published test perplexity of {published.network}: {published.test_results[0].value} (")
    assert note == published.note


def test_count_for_the_penn_treebank_needs_no_files(monkeypatch, capsys):
    line = "--architecture enas-rnn --child.hidden 8 --data ptb:nowhere"
    output = run(f"{line} --count-only True", monkeypatch, capsys)
    assert output.startswith(f"{10_000 * 8 + 16 * 16 + 8 * 8 * 16:,} parameters, ")
    with pytest.raises(ValueError, match=r"nowhere: expected a folder with ptb\.train\.txt"):
        parse(line)
    Path("nowhere").mkdir()
    with pytest.raises(SystemExit):
        run(f"{line} --count-only True", monkeypatch, capsys)
    assert "nowhere: expected ptb.train.txt, " in capsys.readouterr().err


@pytest.mark.parametrize("line", ["--architecture enas-rnn --data digits", "--architecture 0 --data ptb:nowhere"])
def test_count_of_a_network_that_does_not_read_the_data_is_refused(line, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(f"{line} --count-only True", monkeypatch, capsys)
    assert "error: data: expected a data set of " in capsys.readouterr().err


def test_lstm_is_told_as_itself_and_not_as_the_architecture_in_whose_place_it_is(monkeypatch, capsys):
    Path("own.txt").write_text("one two three four " * 300)
    line = "--architecture enas-rnn --child.cell lstm --child.hidden 4 --data text:own.txt"
    with pytest.raises(ValueError, match=r"--retrain\.random: expected 0 with --child\.cell lstm, the same network .*, got 2"):
        parse(line)
    recipe = "--retrain.batch-size 8 --retrain.epochs 1 --retrain.random 0 --device cpu --run-dir out"
    output = run(f"{line} {recipe}", monkeypatch, capsys)
    assert " lstm " in output
    assert "published" not in output
    assert [path.parent.name for path in Path("out").glob("*/result.json")] == ["lstm-0"]


def test_help_needs_no_architecture_of_a_space_whose_members_all_cost_the_same():
    with pytest.raises(ValueError, match="got nothing"):
        parse_retrain(["--space", "rnn"])


@pytest.mark.slow
def test_published_architecture_is_trained_by_its_recipe(monkeypatch, capsys):
    flags = "--data digits --child.num-layers 1 --child.filters 4 --split.num-train 50 --split.num-valid 20 --device cpu"
    recipe = "--retrain.epochs 2 --retrain.batch-size 30 --retrain.random 1 --augment.cutout 2 --threads 1 --run-dir run"
    output = run(f"--architecture enas-micro --preset enas-micro-final {flags} {recipe}", monkeypatch, capsys)
    record = json.loads(Path("run/architecture-0/result.json").read_text())
    published = MicroSpace(5).from_text(PUBLISHED["enas-micro"].text)
    assert MicroSpace(5).from_json(record["architecture"]) == published
    assert output.startswith(f"{record['result']['parameters']:,} parameters (+ ")
    saved = yaml.safe_load(Path("run/retrain.yaml").read_text())
    assert (saved["preset"], saved["child"]["final"], saved["retrain"]["restart_epochs"]) == ("enas-micro-final", "authors", 10)
    assert "count_only" not in saved


def test_folder_of_an_earlier_version_is_gone_on_with():
    answer_in("run", MacroConfig(num_layers=3, filters=4))
    command = parse("--architecture run --retrain.epochs 1 --run-dir out")
    with scripts.retrain._claimed(command):
        pass
    file = Path("out/retrain.yaml")
    whole = file.read_text()
    values = yaml.safe_load(whole)
    del values["text"], values["retrain"]["average_window"]
    file.write_text(yaml.safe_dump(values))
    for changes in ({"text": TextConfig(bptt=9)}, {"retrain": replace(command.retrain, epochs=2)}):
        with pytest.raises(ValueError, match="--run-dir: expected a new folder or that of the same command, got out"):
            scripts.retrain._claimed(replace(command, **changes)).__enter__()
    with scripts.retrain._claimed(command):
        assert file.read_text() == whole


# Mistakes.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--architecture enas-macr",
            "a cell's text or a list of tokens, got 'enas-macr'; published ones: darts-rnn, darts-v1, darts-v2, enas-macro, ",
        ),
        ("--architecture enas-macro --space micro", "--space: expected macro, which --architecture enas-macro is of, got micro"),
        ("--architecture run --space micro", "--space: expected macro, which --architecture run is of, got micro"),
        ("--architecture enas-macro --space mine", "--space: expected one of darts, macro, micro, nasbench201, rnn, got 'mine'"),
        ("--architecture enas-macro --preset mine", f"--preset: expected one of {', '.join(RETRAIN_PRESETS)}, got 'mine'"),
        (
            "--architecture enas-macro --preset enas-micro-final",
            "expected one for the architecture's space, macro (enas-macro-final), got enas-micro-final, which is for micro",
        ),
        ("--architecture run --preset enas-micro-final", "--preset: expected one for the architecture's space, macro"),
        (
            "--architecture 0 --space macro --preset enas-micro-final",
            "--preset: expected one for the architecture's space, macro",
        ),
        ("--architecture 0 --preset enas-micro-final", "micro: expected 8 numbers for each node (8, 16, 24, ...), got 1"),
        (
            "--preset enas-micro-final",
            "a cell's text or a list of tokens, got nothing; published ones: darts-rnn, darts-v1, darts-v2, enas-macro, ",
        ),
        (
            "--architecture enas-macro --child.num-layers 12",
            "--architecture enas-macro: num_layers: expected at least the architecture's 24, got 12; --child must be a network",
        ),
        (
            "--architecture enas-micro --child.num-nodes 4",
            "error: --architecture enas-micro: normal: expected 4 nodes, got 5; --child must be a network of its space",
        ),
        (
            "--architecture [0,0,1,0,0,0,1,4] --space micro --child.num-nodes 2",
            "error: --architecture [0, 0, 1, 0, 0, 0, 1, 4]: normal: expected 2 nodes, got 1; --child must be",
        ),
        (
            "--architecture run --child.num-layers 2",
            "error: --architecture run: num_layers: expected at least the architecture's 3, got 2; --child must be",
        ),
        ("--architecture enas-micro --count-only perhaps", "invalid choice 'perhaps' for argument '--count-only'"),
        (
            "--architecture enas-micro --preset enas-micro-final --retrain.batch-size 50001",
            "retrain.batch_size: expected at most",
        ),
    ],
)
def test_mistake_is_named_without_waiting_for_torch(line, message):
    answer_in("run", MacroConfig(num_layers=3, filters=4))
    assert message in refused_without_torch(line)


def refused_without_torch(line: str) -> str:
    """Run a command line that is wrong in a process of its own; return what it wrote to standard error, on one line."""
    code = f"import atexit, sys; sys.argv = ['retrain', *{line.split()}]; sys.path.insert(0, {str(ROOT)!r})\n"
    code += "atexit.register(lambda: print({'torch', 'torchvision', 'scipy'} & set(sys.modules)))\n"
    code += "from scripts import retrain; retrain.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "set()\n"), done.stderr
    return " ".join(done.stderr.replace("│", " ").split())


MICRO_TEXTS = [
    PUBLISHED["enas-micro"].text,  # 40 numbers: no macro network has as many
    "0 4 0 0 0 0 0 0 " * 17,  # 136 numbers: as many as 16 macro layers, but no skip is 4
    "[0, 0, 1, 0, 0, 0, 1, 4]",
    "arc.txt",
]


@pytest.mark.parametrize("text", MICRO_TEXTS)
def test_text_that_only_another_space_reads_gets_a_hint(text):
    Path("arc.txt").write_text(MICRO_TEXTS[0])
    with pytest.raises(ValueError, match=r"expected .*, got \d+ \(--space micro\?\)$"):
        parse_retrain(["--architecture", text])
    assert parse_retrain(["--architecture", text, "--space", "micro"])[1].space == "micro"


@pytest.mark.parametrize("flags", [["--space", "macro"], ["--preset", "enas-macro-final"]])
def test_space_that_was_told_is_not_doubted(flags):
    with pytest.raises(ValueError, match=r"macro: expected L \(L \+ 1\) / 2 numbers .*, got 40$"):
        parse_retrain(["--architecture", MICRO_TEXTS[0], *flags])


def test_text_that_no_space_reads_gets_no_hint():
    with pytest.raises(ValueError, match=r"got 7$"):
        parse_retrain(["--architecture", "0 0 0 0 0 0 0"])


CELL = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"


@pytest.mark.parametrize(
    ("text", "space"),
    [
        (CELL, "nasbench201"),
        (PUBLISHED["darts-v2"].text, "darts"),
        (f" {PUBLISHED['darts-v1'].text}\n", "darts"),
        ("Genotype(recurrent = [('relu', 0)], concat = [1])", "rnn"),
    ],
)
def test_text_of_a_cell_tells_its_space(text, space):
    stored = read_architecture(text, space=None)
    assert stored.space == space
    assert stored.child.make_space().from_text(text) == stored.architecture


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CELL.replace("none", "zero"), "nasbench201: expected operations out of none, .* got 'zero'"),
        ("Genotype(normal=[], reduce=[])", "--architecture Genotype"),
    ],
)
def test_text_of_a_cell_that_is_no_member_is_refused_by_its_space(text, message):
    with pytest.raises(ValueError, match=message):
        read_architecture(text, space=None)


@pytest.mark.usefixtures("without_bfloat16")
def test_training_in_half_precision_is_warned_of_on_a_processor_without_it(monkeypatch, capsys):
    def stop(*arguments: object, **options: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("enas.recipe.Recipe.training", stop)
    flags = "--data digits --space macro --child.num-layers 1 --child.filters 4 --device cpu --precision bf16 --run-dir run"
    with pytest.warns(RuntimeWarning, match="^precision bf16: this processor"), pytest.raises(InterruptedError):
        run(f"--architecture 0 {flags}", monkeypatch, capsys)
