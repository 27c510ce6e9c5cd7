"""The file that names a search's answer, read as plain values; apart from `enas.export` so that no command waits for PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ANSWER = "best_architecture"


def read_answer(path: Path) -> dict[str, Any]:
    """Read a run folder's answer, or an architecture file. Raises ValueError naming the file and what it lacks."""
    file = path / f"{ANSWER}.json" if path.is_dir() else path
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{file}: expected the answer of a finished search, got no such file") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: expected a JSON file, got {error}") from error
    missing = [key for key in ("space", "architecture", "network") if not isinstance(record, dict) or key not in record]
    if missing:
        raise ValueError(f"{file}: expected the answer of a search; it lacks {', '.join(missing)}")
    return dict(record)
