"""Tables: figures of evaluations as plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

from expertgen_jax.sim.evaluation import QUANTILES


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """An aligned plain-text table: the first column to the left, the others to the right, a rule below the head.

    Args:
      rows: column to cell. Columns stand in the order in which they first occur; a missing cell stays empty.

    Returns:
      The lines, without a newline at the end; "" for no rows.
    """
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def results(evaluations: Sequence[dict[str, Any]]) -> str:
    """Success of evaluated policies as text, strict and lenient, each with its 95 % interval."""

    def percent(figures: dict[str, Any], name: str, interval: str) -> str:
        if figures[name] is None:
            return "-"
        low, high = figures[interval]
        return f"{figures[name]:.1%} [{100 * low:.1f}, {100 * high:.1f}]"

    return table(
        [
            {
                "policy": figures["policy"],
                "physics": figures["physics"],
                "strict success [95 %]": percent(figures, "success", "ci95"),
                "lenient success [95 %]": percent(figures, "success_lenient", "ci95_lenient"),
                "episodes": str(figures["episodes"]),
                "median steps": "-" if figures["median_steps"] is None else f"{figures['median_steps']:.0f}",
            }
            for figures in evaluations
        ]
    )


def final_poses(figures: dict[str, Any]) -> str:
    """Quantiles of the final poses of the successes as text (SI units)."""
    return table(
        [
            {"at success": name} | {f"{q:.0%}": f"{v:.5f}" for q, v in zip(QUANTILES, values, strict=True)}
            for name, values in figures["final_pose"].items()
        ]
    )
