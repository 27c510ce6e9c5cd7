"""Where a search is put together, for the commands and for Python users.

    config = dataclasses.replace(quickstart(), child=MyConfig(), seed=1)
    run = build_search(config, Path("runs/mine"), data=my_image_data)
    run.search.run()
    network = finish_search(run).network
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from controllers import CONTROLLERS
from enas.assemble import choose_augmentation, make_shared_weights
from enas.checkpoint import load_checkpoint, save_checkpoint, write_atomically
from enas.datasets import load_data
from enas.datasets.images import ImageData
from enas.paths import PATHS
from enas.rewards import REWARDS
from enas.search import Position, Search
from enas.seeding import derive_seed
from enas.shared_weights import SharedWeights
from enas.tracking import Tracker, TrackerState, initial_state
from enas.types import Controller
from envs.vector import SharedWeightVectorEnv
from scripts.configuration import CONFIG_FILE, to_yaml
from scripts.presets import SearchConfig
