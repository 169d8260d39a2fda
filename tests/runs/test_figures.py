"""Curves, bars and budgets, as they are drawn."""

import imageio.v3 as imageio
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from expertgen_jax.runs import figures

PRETRAIN = [{"phase": "pretrain", "step": step, "loss": 1 / step, "wall_s": step / 10} for step in (1, 10, 100)]
STEER = [
    {
        "phase": "steer",
        "env_steps": 90 * episodes,
        "episodes": episodes,
        "train_success": episodes / 5000,
        "q_mean": 0.5,
        "critic_loss": 1.2,
        "noise_saturation": 0.1,
    }
    for episodes in (0, 1280, 2560, 3840)
]
STEER[2] |= {"success": 0.73, "success_low": 0.70, "success_high": 0.76}
STEER[3] |= {"success": 0.93, "success_low": 0.90, "success_high": None}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    saved: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (saved.append(self), save(self, *args, **kw)))
    return saved


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_curves_draw_what_the_rows_say(tmp_path, drawn) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    references = {"demo_success": 0.35, "prior_success": 0.3125}
    figures.curves([*PRETRAIN, *STEER], path, references=references)
    success, prior, losses, value, saturation = drawn[0].axes
    assert lines(success)["training"] == ([0, 1280, 2560, 3840], [0, 0.256, 0.512, 0.768])
    assert lines(success)["evaluated, 95 % interval"] == ([2560, 3840], [0.73, 0.93])
    assert lines(success)["demo, 35.0 %"][1] == [0.35, 0.35] and "prior, 31.2 %" in lines(success)
    assert len(success.collections) == 1
    assert lines(prior) == {"loss": ([1, 10, 100], [1, 0.1, 0.01])}
    assert list(lines(losses)) == ["critic"] and list(lines(value)) == ["Q", "return"]
    assert list(lines(saturation)) == ["saturated"]
    assert imageio.imread(path).shape[:2] == (702, 1560)
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


def test_curves_of_a_student(tmp_path, drawn) -> None:
    rows = [{"phase": "distil", "round": i, "loss": 1 / i, "alpha": 1 - i / 4, "train_success": 0.9} for i in (1, 2, 3)]
    rows[2] |= {"success": 0.73, "success_low": 0.70, "success_high": 0.76}
    figures.distillation(rows, tmp_path / "curves.png", references={"expert": 0.99})
    success, loss, alpha = drawn[0].axes
    assert lines(success)["evaluated, 95 % interval"] == ([3], [0.73])
    assert lines(success)["training"] == ([1, 2, 3], [0.9] * 3) and "expert, 99.0 %" in lines(success)
    assert lines(loss) == {"loss": ([1, 2, 3], [1, 0.5, 1 / 3])}
    assert lines(alpha) == {"expert acts": ([1, 2, 3], [0.75, 0.5, 0.25])}
    assert imageio.imread(tmp_path / "curves.png").size


def test_an_episode_on_a_robot(tmp_path, drawn) -> None:
    rows: list[dict] = [
        {"step": i, "due_s": i / 20, "late_ms": 2.0 + i, "action": [0.1 * i, -0.5], "qpos": [i, 2 * i, 3 * i]}
        for i in range(4)
    ]
    rows[0] |= {"decide_ms": 9.0}
    figures.deployment([*rows, {"ended": "done", "fault": False}], tmp_path / "episode.png", control_dt=0.05)
    actions, positions, times = drawn[0].axes
    assert [line.get_ydata().tolist() for line in actions.lines] == [[0.0, 0.1, 0.2, pytest.approx(0.3)], [-0.5] * 4]
    assert len(positions.lines) == 3
    assert lines(times)["sent late"] == (pytest.approx([0, 0.05, 0.1, 0.15]), [2.0, 3.0, 4.0, 5.0])
    assert lines(times)["deciding"] == ([0.0], [9.0]) and lines(times)["a step is missed"][1] == [50.0, 50.0]
    figures.deployment([{"ended": "no answer", "fault": True}], tmp_path / "nothing.png", control_dt=0.05)
    assert (tmp_path / "nothing.png").stat().st_size > 0


@pytest.mark.parametrize("rows", [[], PRETRAIN, STEER[:1], [{"phase": "steer", "episodes": 3}]])
def test_curves_of_a_run_that_has_barely_begun(rows, tmp_path, drawn) -> None:
    figures.curves(rows, tmp_path / "curves.png", references={})
    for axes in drawn[0].axes:
        assert axes.get_visible() == bool(axes.lines)
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_a_failed_drawing_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    def fail(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.curves(STEER, path, references={})
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_bars_stand_for_success(tmp_path, drawn) -> None:
    groups = {"peg": {"prior": (0.3, 0.2, 0.4), "expert": (1.0, 0.9, 1.0)}, "rail": {"expert": (0.5, 0.4, 0.6)}}
    figures.bars(groups, tmp_path / "bars.png")
    assert imageio.imread(tmp_path / "bars.png").shape[1] > 600
    (axes,) = drawn[0].axes
    assert sorted(round(bar.get_height(), 3) for bar in axes.patches) == [0.3, 0.5, 1.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["peg", "rail"]


def test_budgets_are_a_line_for_each_method(tmp_path, drawn) -> None:
    points = [(10_000, 0.9, 0.8, 0.95), (1_000, 0.3, 0.2, 0.4)]
    figures.budgets({"peg": {"DAgger": points, "BC": points[:1]}}, tmp_path / "budgets.png")
    (axes,) = drawn[0].axes
    dagger, bc = axes.lines
    assert dagger.get_xydata().tolist() == [[1_000, 0.3], [10_000, 0.9]] and bc.get_xydata().tolist() == [[10_000, 0.9]]
    assert axes.get_xscale() == "log" and axes.get_title() == "peg"
