"""Configurations that only `compare` has: strategies as they were tuned for a benchmark's table."""

from __future__ import annotations

from collections.abc import Callable

from controllers.configs import EnasConfig
from controllers.evolution import EvolutionConfig
from controllers.gaea import GaeaConfig
from enas.configs import RetrainConfig, ScheduleConfig
from enas.spaces.nasbench201 import NasBench201Config
from scripts.search_config import ControllerSettings, SearchConfig


def nasbench201_table() -> SearchConfig:
    """Return strategies for trials of about 110 architectures on the table of NAS-Bench-201.

    Tuned on CIFAR-10's validation accuracies alone: ENAS' learning rate, baseline and tanh; PPO's learning rate, which is its
    default; the learning rate of sampled GAEA (.1, .2, .3 and .5 gave 91.12, 91.19, 91.22 and 91.23 % after 200 epochs).
    Evolution has the sizes of the benchmark's authors, the softmax a decision (`categorical`) NATS-Bench's values. An LSTM policy
    gains from batches, which `--strategies` may give it.
    """
    return SearchConfig(
        preset="nasbench201-table",
        space="nasbench201",
        strategy="uniform",
        epochs=1,
        threads=1,
        child=NasBench201Config(),
        controller=ControllerSettings(
            enas=EnasConfig(
                learning_rate=0.02,
                tanh_constant=2.5,
                entropy_weight=0.0,
                skip_weight=0.0,
                baseline_decay=0.9,
                baseline_start="first",
            ),
            evolution=EvolutionConfig(population=10, sample=10),
            gaea=GaeaConfig(kind="sampled", baseline_decay=0.9),
        ),
        schedule=ScheduleConfig(controller_steps=110, architectures_per_step=1),
        retrain=RetrainConfig(epochs=0),
    )


COMPARE_PRESETS: dict[str, Callable[[], SearchConfig]] = {"nasbench201-table": nasbench201_table}
"""Every one by its name, beside those of `scripts.presets`."""
