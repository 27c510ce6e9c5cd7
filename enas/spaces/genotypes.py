"""The text that DARTS and its successors exchange cells in (Liu et al. 2019; authors: `cnn/genotypes.py`), read and written.

`Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=...)` is
Python, but nothing here runs it. What a genotype of another space is made of reads its parts by the same functions
(`enas.spaces.rnn`). Whether the cells are members of a space is not covered.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

Edge = tuple[str, int]
"""An operation and the item that it reads."""

_ASSIGNMENT = re.compile(r"\s*[A-Za-z_]\w*\s*=")
_SHOWN = 60  # characters of a text in a message


@dataclass(frozen=True, kw_only=True)
class Genotype:
    """What a genotype's text says, unchecked.

    Attributes:
        normal, reduce: the edges of each cell, those of its first node first.
        normal_concat, reduce_concat: items that make each cell's output; 0 and 1 are the cell's inputs.
    """

    normal: Sequence[Edge]
    normal_concat: Sequence[int]
    reduce: Sequence[Edge]
    reduce_concat: Sequence[int]

    def to_text(self) -> str:
        """Return it in one line, as the authors' search prints it."""
        return f"Genotype({', '.join(f'{name}={value!r}' for name, value in asdict(self).items())})"


def read_genotype(text: str) -> Genotype:
    """Read a genotype, with or without the name that it is assigned to. Raises ValueError naming what does not fit."""
    expected = "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)"
    arguments = read_arguments(text, [field.name for field in fields(Genotype)], expected=expected)
    return Genotype(
        normal=read_edges("normal", arguments["normal"]),
        normal_concat=read_concat("normal_concat", arguments["normal_concat"]),
        reduce=read_edges("reduce", arguments["reduce"]),
        reduce_concat=read_concat("reduce_concat", arguments["reduce_concat"]),
    )


def read_arguments(text: str, names: Sequence[str], *, expected: str) -> dict[str, ast.expr]:
    """Return the named arguments of the `Genotype` that a text is, unevaluated.

    Args: names: of all arguments. expected: what a text looks like, for messages.
    Raises: ValueError naming what does not fit.
    """
    call = _parse(text, expected)
    arguments = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    if call.args or list(arguments) != [keyword.arg for keyword in call.keywords] or set(arguments) != set(names):
        given = [ast.unparse(node)[:_SHOWN] for node in call.args] + [str(keyword.arg) for keyword in call.keywords]
        raise ValueError(f"Genotype: expected {', '.join(names)}, got {', '.join(given) or 'nothing'}")
    return arguments


def _parse(text: str, expected: str) -> ast.Call:
    """Return the call of `Genotype` that a text is, unevaluated."""
    refusal = f"expected {expected}, got {text[:_SHOWN]!r}"
    if "Genotype" not in text:  # spares the parser, which warns of some texts
        raise ValueError(refusal)
    assignment = _ASSIGNMENT.match(text)
    body = text[assignment.end() if assignment else 0 :]
    try:
        call = ast.parse(f"(\n{body}\n)", mode="eval").body  # in brackets a line may break anywhere
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(refusal) from error
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Genotype"):
        raise ValueError(refusal)
    return call


def read_edges(name: str, node: ast.expr) -> tuple[Edge, ...]:
    """Return the pairs of an operation and an item that an argument lists. Raises ValueError naming the argument."""
    value = _literal(node)
    if not isinstance(value, list | tuple) or not all(map(_is_edge, value)):
        raise ValueError(f"{name}: expected a list of (operation, item), got {ast.unparse(node)[:_SHOWN]}")
    return tuple((operation, item) for operation, item in value)


def _is_edge(value: Any) -> bool:
    return isinstance(value, list | tuple) and [type(part) for part in value] == [str, int]


def read_concat(name: str, node: ast.expr) -> Sequence[int]:
    """Return items as they were written; a range is not spelled out, since it may be of any length. Raises ValueError."""
    is_range = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords
    values = [_literal(argument) for argument in node.args] if is_range and isinstance(node, ast.Call) else _literal(node)
    mistake = f"{name}: expected a list of items or range(first, end), got {ast.unparse(node)[:_SHOWN]}"
    if not (isinstance(values, list | tuple) and all(type(value) is int for value in values)):
        raise ValueError(mistake)
    try:
        return range(*values) if is_range else list(values)
    except (TypeError, ValueError) as error:
        raise ValueError(mistake) from error


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, or None for anything else."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
