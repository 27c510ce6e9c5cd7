"""The end of `compare`: its files, and its table on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from enas.atomic_file import write_atomically
from enas.compare.document import Paragraph, to_html, to_markdown
from enas.compare.outcome_statistics import Judgement
from enas.compare.outcomes import Study
from enas.compare.report import judge, report_blocks, write_pictures
from enas.compare.results import results_json
from enas.compare.verdicts import outcome_table, verdicts


def write_results(study: Study, out: Path) -> dict[str, Judgement]:
    """Write `results.json`, the pictures, `report.md` and `report.html`; return the statistics by measure."""
    comparisons = judge(study)
    write_atomically(out / "results.json", json.dumps(results_json(study, comparisons), indent=1) + "\n")
    pictures = write_pictures(study, comparisons[study.judged], out)
    blocks = report_blocks(study, comparisons, pictures)
    write_atomically(out / "report.md", to_markdown(blocks))
    write_atomically(out / "report.html", to_html(blocks, title=study.title))
    return comparisons


def print_results(study: Study, comparisons: Mapping[str, Judgement], out: Path) -> None:
    """Print the table of outcomes, the verdicts and where the files are."""
    console = Console()
    if not console.is_terminal:  # a file's lines need not fit anything
        console = Console(width=max(console.width, 170))
    judged = comparisons[study.judged]
    shown = outcome_table(study, judged)
    table = Table(title=Text(f"{study.judged}: {study.measures[study.judged]}"), title_justify="left")
    for index, heading in enumerate(shown.headings):
        table.add_column(heading, justify="right" if index else "left")
    for row in shown.rows:
        table.add_row(*map(Text, row))
    console.print(table)
    for block in verdicts(study, judged):
        if isinstance(block, Paragraph):
            console.print(block.text.replace("**", ""), highlight=False, markup=False, soft_wrap=True)
    console.print(f"Files: {out}/report.html, report.md, results.json, pictures", highlight=False, markup=False, soft_wrap=True)
