"""Gymnasium environments over shared weights, and one over a benchmark's table; `import envs` registers them.

`gym.make("enas/Macro-v0")` is one architecture a step, `gym.make_vec("enas/Macro-v0", num_envs=N)` N of them on one child;
`enas/MacroTokens-v0` chooses an architecture token by token, in the same two ways. `enas/NasBench201Table-v0` answers from
`table=FILE`.
"""

from __future__ import annotations

from typing import NamedTuple

from gymnasium.envs.registration import register


class Form(NamedTuple):
    """How an environment is built from plain values.

    Attributes:
        single: entry point of `gym.make`, a string, so that the registration can be written as JSON.
        vector: entry point of `gym.make_vec`.
    """

    single: str
    vector: str


class Registration(NamedTuple):
    """A registered environment.

    Attributes:
        space: name of its search space, for a form that serves several; None for one that knows its own.
        form: how its episodes go.
    """

    space: str | None
    form: Form


ONE_SHOT = Form("envs.shared_weight:make_env", "envs.vector:make_vector_env")
TABLE = Form("envs.tabular:make_table_env", "envs.tabular:make_table_vector_env")
TOKENS = Form("envs.tokens:make_token_env", "envs.tokens:make_token_vector_env")

ENVS = {
    "enas/Darts-v0": Registration("darts", ONE_SHOT),
    "enas/DartsTokens-v0": Registration("darts", TOKENS),
    "enas/Macro-v0": Registration("macro", ONE_SHOT),
    "enas/MacroTokens-v0": Registration("macro", TOKENS),
    "enas/Micro-v0": Registration("micro", ONE_SHOT),
    "enas/MicroTokens-v0": Registration("micro", TOKENS),
    "enas/NasBench201-v0": Registration("nasbench201", ONE_SHOT),
    "enas/NasBench201Table-v0": Registration(None, TABLE),
    "enas/NasBench201Tokens-v0": Registration("nasbench201", TOKENS),
    "enas/Rnn-v0": Registration("rnn", ONE_SHOT),
    "enas/RnnTokens-v0": Registration("rnn", TOKENS),
}
"""Every registered environment by its id."""

for _env_id, _entry in ENVS.items():
    register(
        id=_env_id,
        entry_point=_entry.form.single,
        vector_entry_point=_entry.form.vector,
        kwargs={} if _entry.space is None else {"space": _entry.space},
    )
