"""Gymnasium environments over shared weights; `import envs` registers them.

`gym.make("enas/Macro-v0")` is one architecture a step, `gym.make_vec("enas/Macro-v0", num_envs=N)` N of them on one child.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

ENVS = {
    "enas/Macro-v0": "macro",
}
"""Every registered environment and its search space."""

for _env_id, _space in ENVS.items():
    register(
        id=_env_id,
        entry_point="envs.shared_weight:make_env",
        vector_entry_point="envs.vector:make_vector_env",
        kwargs={"space": _space},
    )
