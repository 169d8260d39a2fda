"""Figures: learning curves of a run, success of many, an episode on a robot."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from expertgen_jax.files import atomic

Row = Mapping[str, Any]

_EXPERT, _TRAIN, _GREY = "#1f6fb4", "#e07b2c", "#5f6b76"
_REFERENCE_COLOURS = ("#8a939c", "#3a9a5b", "#b0568f", "#b39b2a")


def curves(rows: Sequence[Row], path: str | os.PathLike[str], *, references: Mapping[str, float]) -> None:
    """Draws the learning curves of a run as a PNG; the file appears whole or not at all.

    Large: success against episodes, evaluated (with its confidence band) and in training. Small: the prior's loss, the
    learner's losses, mean Q beside the training return (= success), the share of saturated noise. What has no rows is
    left out.

    Args:
      rows: of `metrics.jsonl`, in order. Rows of phase `pretrain` have `step, loss`, rows of phase `steer` `episodes`
        and any of `success, success_low, success_high, train_success, q_mean, critic_loss, noise_saturation`.
      path: of the PNG.
      references: name to success in [0, 1], drawn as dashed lines (`demo_success`, `prior_success`).

    Raises:
      OSError: the folder cannot be written.
    """
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    success = figure.add_subplot(grid[:, :2])
    prior, losses, value, saturation = (figure.add_subplot(grid[i // 2, 2 + i % 2]) for i in range(4))

    _success(success, rows, references, "steer", "episodes", "training episodes")
    _lines(prior, rows, "pretrain", "step", {"loss": ("loss", _EXPERT)})
    prior.set(title="Prior: behaviour cloning", yscale="log" if prior.lines else "linear")
    learner = {"critic_loss": ("critic", _EXPERT)}
    _lines(losses, rows, "steer", "episodes", learner)
    losses.set(title="Losses")
    _lines(value, rows, "steer", "episodes", {"q_mean": ("Q", _EXPERT), "train_success": ("return", _TRAIN)})
    value.set(title="Mean Q and training return")
    _lines(saturation, rows, "steer", "episodes", {"noise_saturation": ("saturated", _EXPERT)})
    saturation.set(title="Noise at its bound", ylim=(0, 1))
    saturation.yaxis.set_major_formatter(PercentFormatter(1.0))

    _finished(figure, success, path)


def distillation(rows: Sequence[Row], path: str | os.PathLike[str], *, references: Mapping[str, float]) -> None:
    """Draws the learning curves of a student as a PNG; the file appears whole or not at all.

    Large: success against rounds, evaluated and in training, where the expert acts now and then. Small: the loss, and
    the expert's share of the decisions.

    Args:
      rows: of `metrics.jsonl`, in order; those of phase `distil` have `round, loss, alpha, train_success`, some
        `success, success_low, success_high`.
      path: of the PNG.
      references: name to success in [0, 1], drawn as dashed lines.

    Raises:
      OSError: the folder cannot be written.
    """
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    success = figure.add_subplot(grid[:, :2])
    loss, alpha = (figure.add_subplot(grid[i, 2]) for i in range(2))
    _success(success, rows, references, "distil", "round", "rounds")
    _lines(loss, rows, "distil", "round", {"loss": ("loss", _EXPERT)})
    loss.set(title="Loss on all labels", yscale="log" if loss.lines else "linear")
    _lines(alpha, rows, "distil", "round", {"alpha": ("expert acts", _EXPERT)})
    alpha.set(title="Decisions of the expert", ylim=(0, 1.02))
    alpha.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finished(figure, success, path)


def deployment(rows: Sequence[Row], path: str | os.PathLike[str], *, control_dt: float) -> None:
    """Draws an episode on a robot as a PNG; the file appears whole or not at all.

    From above: actions, positions of what moves, and milliseconds by which targets were sent late and that decisions
    took, with the line of a missed step.

    Args:
      rows: of the episode's log, in order; those of a control step have `due_s, late_ms, action, qpos`, where a chunk
        began also `decide_ms`.
      path: of the PNG.
      control_dt: seconds a control step.

    Raises:
      OSError: the folder cannot be written.
    """
    figure = Figure(figsize=(9.5, 7.0), layout="constrained")
    actions, positions, times = figure.subplots(3, 1, sharex=True)
    steps = [row for row in rows if "late_ms" in row]
    due = [row["due_s"] for row in steps]
    for axes, name in ((actions, "action"), (positions, "qpos")):
        if steps:
            axes.plot(due, [row[name] for row in steps], linewidth=1.2)
    thought = [row for row in steps if "decide_ms" in row]
    times.plot(due, [row["late_ms"] for row in steps], color=_EXPERT, linewidth=1.2, label="sent late")
    times.plot([r["due_s"] for r in thought], [r["decide_ms"] for r in thought], ".", color=_TRAIN, label="deciding")
    times.axhline(1000 * control_dt, color=_GREY, linestyle="--", linewidth=1, label="a step is missed")
    times.legend(loc="upper right", frameon=False, fontsize=8, ncols=3)
    actions.set(title="Actions", ylim=(-1.05, 1.05))
    positions.set(title="Positions (m, rad)")
    times.set(title="Time (ms)", xlabel="s", ylim=(0, None))
    _finished(figure, actions, path)


def _finished(figure: Figure, large: Axes, path: str | os.PathLike[str]) -> None:
    """Writes a figure of curves, without those of which there is nothing."""
    for axes in figure.axes:
        axes.set_visible(bool(axes.lines))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.title.set_fontsize(13 if axes is large else 10)
        axes.tick_params(labelsize=10 if axes is large else 8, color=_GREY, labelcolor=_GREY)
    with atomic(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _success(
    axes: Axes, rows: Sequence[Row], references: Mapping[str, float], phase: str, over: str, label: str
) -> None:
    x, y = _series(rows, phase, over, "train_success")
    if x:
        axes.plot(x, y, color=_TRAIN, linewidth=1, alpha=0.7, label="training")
    x, low, high = _series(rows, phase, over, "success_low", "success_high")
    axes.fill_between(x, low, high, color=_EXPERT, alpha=0.18, linewidth=0)
    x, y = _series(rows, phase, over, "success")
    if x:
        axes.plot(x, y, "o-", color=_EXPERT, linewidth=2.2, markersize=4, label="evaluated, 95 % interval")
    for i, (name, level) in enumerate(references.items()):
        named = f"{name.removesuffix('_success')}, {100 * level:.1f} %"
        axes.axhline(level, color=_REFERENCE_COLOURS[i % 4], linestyle="--", linewidth=1.3, label=named)
    axes.set(title="Success", xlabel=label, ylim=(-0.02, 1.02))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if axes.lines:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4, frameon=False, fontsize=9)


def _lines(axes: Axes, rows: Sequence[Row], phase: str, x_key: str, lines: Mapping[str, tuple[str, str]]) -> None:
    """Plots each key of `lines` that occurs, as `{key: (label, colour)}`, over `x_key`."""
    for key, (label, colour) in lines.items():
        x, y = _series(rows, phase, x_key, key)
        if x:
            axes.plot(x, y, color=colour, linewidth=1.4, label=label)
    if len(axes.lines) > 1:
        axes.legend(loc="best", frameon=False, fontsize=8)
    axes.set_xlabel(x_key, fontsize=8, color=_GREY)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _series(rows: Sequence[Row], phase: str, *keys: str) -> list[list[float]]:
    """One list of values a key, of the rows of a phase that have them all."""
    chosen = [row for row in rows if row.get("phase") == phase and all(row.get(key) is not None for key in keys)]
    return [[float(row[key]) for row in chosen] for key in keys]


def bars(groups: Mapping[str, Mapping[str, tuple[float, float, float]]], path: str | os.PathLike[str]) -> None:
    """Draws success a task, one bar a policy, as a PNG; the file appears whole or not at all.

    Args:
      groups: `{task: {policy: (success, low, high)}}` in [0, 1], with the bounds of an interval.
      path: of the PNG.
    """
    policies = list(dict.fromkeys(policy for group in groups.values() for policy in group))
    figure = Figure(figsize=(max(6.0, 1.1 * len(groups)), 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(policies)
    colours = (*_REFERENCE_COLOURS[:2], _EXPERT, _TRAIN)
    for i, policy in enumerate(policies):
        found = [(x, group[policy]) for x, group in enumerate(groups.values()) if policy in group]
        success = [value for _, (value, _, _) in found]
        errors = [[v - low for _, (v, low, _) in found], [high - v for _, (v, _, high) in found]]
        places = [x + (i - (len(policies) - 1) / 2) * width for x, _ in found]
        axes.bar(places, success, width, yerr=errors, label=policy, color=colours[i % 4], error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(groups)), list(groups), rotation=30, ha="right")
    axes.set(ylabel="success", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=len(policies), frameon=False)
    with atomic(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def budgets(curves: Mapping[str, Mapping[str, Sequence[tuple[float, ...]]]], path: str | os.PathLike[str]) -> None:
    """Draws success against labelled decisions, one panel a task, as a PNG; the file appears whole or not at all.

    Args:
      curves: `{task: {method: [(labels, success, low, high), ...]}}`, success in [0, 1] with the bounds of an interval.
      path: of the PNG.
    """
    figure = Figure(figsize=(5.2 * len(curves), 3.8), layout="constrained")
    for i, (task, methods) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), i + 1)
        for (method, points), colour in zip(methods.items(), (_EXPERT, _TRAIN), strict=False):
            labels, success, low, high = zip(*sorted(points), strict=True)
            axes.fill_between(labels, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(labels, success, "o-", color=colour, linewidth=2, markersize=4, label=method)
        axes.set(title=task, xlabel="decisions labelled by the expert", xscale="log", ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend(loc="lower right", frameon=False)
    with atomic(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
