"""What `results.json` holds: every outcome and every statistic of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from enas.compare.checklist import fill_in
from enas.compare.outcome_statistics import Judgement
from enas.compare.outcomes import Study


def results_json(study: Study, comparisons: Mapping[str, Judgement]) -> dict[str, Any]:
    """Return every outcome and statistic as JSON types; numbers that are not finite become null."""
    outcomes = [
        {"strategy": one.strategy, "seed": one.seed, "measures": one.measures, "spent": one.spent, "machine": one.machine}
        for one in study.outcomes
    ]
    statistics = {
        measure: {
            "summaries": {name: vars(one) for name, one in comparison.summaries.items()},
            "versus": {
                name: {
                    **vars(one),
                    "improvement": vars(one.improvement),
                    "pairs": one.pairs and vars(one.pairs),
                    "verdict": one.verdict,
                    "obstacle": one.obstacle,
                }
                for name, one in comparison.versus.items()
            },
        }
        for measure, comparison in comparisons.items()
    }
    record = {
        "title": study.title,
        "command": study.command,
        "judged": study.judged,
        "metric": study.metric.name,
        "is_proxy": study.is_proxy,
        "reference": study.reference,
        "budget": vars(study.budget),
        "seeds": list(study.seeds),
        "measures": study.measures,
        "statistics": statistics,
        "outcomes": outcomes,
        "failures": study.failures,
        "checklist": [vars(item) for item in fill_in(study)],
    }
    plain: dict[str, Any] = _plain(record)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
