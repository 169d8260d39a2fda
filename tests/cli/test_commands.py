"""Each command once in a small setting, and what it says to mistakes."""

import dataclasses
import fcntl
import importlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
import safetensors.numpy
from commands import call
from small import SMALL, SMALL_STUDENT

from expertgen_jax.cli import command, reproduce
from expertgen_jax.cli.runs import RunArguments, run_tasks
from expertgen_jax.deploy import simulator
from expertgen_jax.deploy.client import Client
from expertgen_jax.errors import UserError
from expertgen_jax.files import write_json
from expertgen_jax.learning import demos, student
from expertgen_jax.learning.dagger import DaggerConfig
from expertgen_jax.runs import reproduction
from expertgen_jax.runs.directory import Place, RunDirectory, open_directory
from expertgen_jax.runs.opening import load_run, open_run
from expertgen_jax.runs.settings import RunSettings, check, from_json, to_json, with_preset
from expertgen_jax.runs.student import load_student
from expertgen_jax.sim import episode
from expertgen_jax.tasks import registry
from expertgen_jax.vision import appearance

ROOT = Path(__file__).parents[2]


def start(script: str, *args: str, **options) -> subprocess.Popen:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(ROOT / "experiments" / script), *args]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def run_script(script: str, *args: str) -> tuple[int, str, str]:
    process = start(script, *args)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("script", sorted((ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_the_commands(script, monkeypatch):
    called = []
    monkeypatch.setattr(importlib.import_module(f"expertgen_jax.cli.{script.stem}"), "main", lambda: called.append(1))
    runpy.run_path(str(script))
    assert called == [1]


def steer_rows(run: Path) -> list[dict]:
    """Rows of the steering phase without their times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows if row["phase"] == "steer"]


def test_steer_leaves_a_complete_run_directory(small_run):
    files = ("config.json", "metrics.jsonl", "summary.json", "demos.npz", "curves.png", "expert.mp4")
    assert all((small_run / name).stat().st_size > 0 for name in files)
    assert all((small_run / "checkpoints" / name).is_dir() for name in ("prior", "expert", "training"))
    summary = json.loads((small_run / "summary.json").read_text())
    assert {
        *("task", "seed", "physics", "device", "versions", "demo_success", "prior_success", "expert_success"),
        *("expert_success_lenient", "ci95", "eval_episodes", "train_episodes", "env_steps", "wall_s"),
    } <= summary.keys()
    assert summary["wall_s"].keys() == {"demos", "prior", "compile", "steer", "eval", "total"}
    assert summary["train_episodes"] >= 96


def test_finished_phases_are_not_redone(small_run):
    times = {path: path.stat().st_mtime_ns for path in small_run.rglob("*") if path.is_file()}
    redrawn = {small_run / "summary.json", small_run / "curves.png"}
    code, _, err = call("steer", "--run-dir", str(small_run), *SMALL, "--no-overwrite")
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in times if path not in redrawn} == {
        path: when for path, when in times.items() if path not in redrawn
    }


def test_evaluate_prints_what_it_stores(small_run):
    code, out, err = call("evaluate", "--run-dir", str(small_run), "--policy", "script", "--episodes", "32")
    assert code == 0, err
    figures = json.loads((small_run / "evaluations.json").read_text())["script on native, 32 episodes"]
    assert f"{figures['success']:.1%}" in out and figures["episodes"] == 32


@pytest.mark.slow
def test_a_run_goes_on_from_one_of_the_other_robot(small_run, tmp_path):
    before = load_run(small_run)
    settings = dataclasses.replace(before.settings, robot="panda", init_from=small_run)
    run = open_run(settings, Place(tmp_path / "arm"))
    expert = run.expert()
    assert [row["phase"] for row in run.directory.rows() if row["phase"] in ("demos", "pretrain")] == ["demos"]
    prior, old_prior = run.finished_prior(), before.finished_prior()
    jax.tree.map(np.testing.assert_array_equal, prior.params, old_prior.params)
    assert expert.normalizer.count > before.finished_expert(old_prior).normalizer.count
    other = dataclasses.replace(settings, prior=dataclasses.replace(settings.prior, chunk=2))
    with pytest.raises(UserError, match=r"--init-from .*: --prior is "):
        open_run(other, Place(tmp_path / "other"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lerobot", "robomimic"])
def test_episodes_go_out_and_come_in(small_run, tmp_path, kind):
    name = str(tmp_path / ("out" if kind == "lerobot" else "out.hdf5"))
    played = ("--policy", "script", "--episodes", "8", "--pictures", "16", "--format", kind)
    code, out, err = call("demos", "export", "--run-dir", str(small_run), "--out", name, *played)
    assert code == 0 and "8 episodes of script" in out, err
    code, out, err = call("demos", "import", name, "--task", "peg", "--out", str(tmp_path / "in.npz"))
    assert code == 0 and "8 episodes of recorded actions" in out, err
    told, replayed = (next(word for word in line.split() if "%" in word) for line in out.splitlines()[2:4])
    assert told == replayed
    code, _, err = call("demos", "import", name, "--task", "lift_banana", "--out", str(tmp_path / "other.npz"))
    assert code == 2 and "'qpos' has" in err and not (tmp_path / "other.npz").exists()


@pytest.mark.slow
def test_killed_run_ends_with_the_same_figures(small_run, tmp_path):
    run = tmp_path / "killed"
    for saved in (1, 2):  # kill -9 after the first checkpoint, and again after the second
        process = start("steer.py", "--run-dir", str(run), *SMALL)
        training = run / "checkpoints" / "training"
        while process.poll() is None and len([p for p in training.glob("*") if p.name.isdigit()]) < saved:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (run / "expert.mp4").touch()  # rendering takes long and is tested elsewhere
    code, _, err = call("steer", "--run-dir", str(run), *SMALL)
    assert code == 0, err
    assert steer_rows(run) == steer_rows(small_run)
    figures, undisturbed = (json.loads((r / "summary.json").read_text()) for r in (run, small_run))
    assert figures["expert_success"] == undisturbed["expert_success"]
    assert figures["final_pose"] == undisturbed["final_pose"]


def test_a_finished_run_grows(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    kept = [(run / name).stat().st_mtime_ns for name in ("demos.npz", "checkpoints/prior")]
    before = steer_rows(run)
    more = ["--steer.episodes", "200", "--steer.noise-bound", "1.2", "--steer.updates", "8"]
    more += ["--transfer-episodes", "4"]
    code, _, err = call("steer", "--run-dir", str(run), *SMALL, *more)
    assert code == 0, err
    assert kept == [(run / name).stat().st_mtime_ns for name in ("demos.npz", "checkpoints/prior")]
    after = steer_rows(run)
    assert after[: len(before)] == before and after[-1]["episodes"] >= 200 > before[-1]["episodes"]
    config = json.loads((run / "config.json").read_text())
    (event,) = config["history"]
    was = {"steer.episodes": 96, "steer.noise_bound": 2.5, "steer.updates": 16, "transfer_episodes": 0}
    assert event["settings"] == was
    assert config["steer"]["episodes"] == 200
    summary = json.loads((run / "summary.json").read_text())
    assert summary["train_episodes"] >= 200 and summary["transfer"]["physics"] == "mjx"


def test_what_made_a_phase_has_not_changed_is_kept_also_when_overwriting(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    other = [*SMALL, "--steer.worlds", "32", "--eval-episodes", "32"]  # the latter alone would do
    code, _, err = call("steer", "--run-dir", str(run), *other)
    assert code == 2 and "--steer.worlds 16, not 32" in err
    kept = [(run / name).stat().st_mtime_ns for name in ("demos.npz", "checkpoints/prior")]
    code, _, err = call("steer", "--run-dir", str(run), *other, "--overwrite")
    assert code == 0, err
    assert kept == [(run / name).stat().st_mtime_ns for name in ("demos.npz", "checkpoints/prior")]
    assert steer_rows(run)[0]["iteration"] == 15, "steering began afresh, with 32 worlds"


def test_flipped_bits_are_noticed(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    largest = max(
        (p for p in (run / "checkpoints" / "prior").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    code, _, err = call("evaluate", "--run-dir", str(run), "--policy", "prior", "--episodes", "5")
    assert code == 2 and "is damaged" in err


def test_two_commands_do_not_share_a_run(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    lock = os.open(run / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.lockf(lock, fcntl.LOCK_EX)
    code, _, err = run_script("steer.py", "--run-dir", str(run), *SMALL)  # a lock holds between processes
    os.close(lock)
    assert code == 2 and "another command is at work there" in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--task", "pge"], ["pge", "did you mean peg"]),
        (["--task", "nowhere.py"], ["nowhere.py", "no such file"]),
        (["--steer.worlds", "0"], ["--steer.worlds", "at least 1"]),
        (["--steer.wrlds", "8"], ["--steer.wrlds", "--steer.worlds"]),
        (["--physics", "bullet"], ["--physics", "native"]),
        (["--task", "lift_brick", "--randomization", "wild"], ["--randomization", "strong"]),
        (["--demos", "nowhere.npz"], ["nowhere.npz", "no such file"]),
    ],
)
def test_mistakes_end_in_one_clear_message(tmp_path, args, said):
    code, out, err = call("steer", "--run-dir", str(tmp_path / "run"), *args)
    assert code == 2
    assert all(words in err + out for words in said), err + out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prior": {"chunk": 121}}, "--prior.chunk 121"),
        ({"prior": {"sample_steps": 21}}, "--prior.sample-steps 21"),
        ({"prior": {"ema": 1.5}}, "--prior.ema"),
        ({"steer": {"target": 1.5}}, "--steer.target must be at most 1"),
        ({"steer": {"noise_bound": -1.0}}, "--steer.noise-bound"),
        ({"steer": {"sigma_min": 1.0}}, "--steer.sigma-min"),
        ({"eval_episodes": 0}, "--eval-episodes"),
    ],
)
def test_settings_are_checked(change, said):
    settings = RunSettings()
    stored = json.loads(json.dumps(to_json(settings)))
    for name, value in change.items():
        stored[name] = stored[name] | value if isinstance(value, dict) else value
    with pytest.raises(UserError, match=said):
        check(from_json(settings, stored), registry.load_task("peg"))


def test_a_preset_changes_its_fields_only():
    plain = RunSettings()
    changed = with_preset(plain, registry.load_task("push_pear").preset)
    assert (changed.demo.tries, changed.prior.epochs) == (2, 120)
    prior = dataclasses.replace(changed.prior, epochs=plain.prior.epochs)
    assert dataclasses.replace(changed, demo=plain.demo, prior=prior) == plain
    with pytest.raises(UserError, match="nonsense"):
        with_preset(plain, {"steer": {"nonsense": 1}})


def test_a_family_is_each_of_its_tasks_with_its_own_preset(tmp_path, monkeypatch, capsys):
    seen = []
    flags = ["--task", "tabletop", "--seed", "3", "--run-dir", str(tmp_path), "--steer.worlds", "32"]
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(command, "enable_compilation_cache", lambda: None)
    run_tasks("steer", RunArguments, seen.append, flags)
    assert [args.settings.task for args in seen] == list(registry.FAMILIES["tabletop"])
    assert [args.place.run_dir for args in seen] == [tmp_path / args.settings.task for args in seen]
    for args in seen:
        settings, preset = (
            args.settings,
            with_preset(RunSettings(), registry.load_task(args.settings.task).preset or {}),
        )
        assert (settings.seed, settings.steer.worlds) == (3, 32), "what the command line says"
        assert (settings.prior.chunk, settings.demo.tries) == (preset.prior.chunk, preset.demo.tries)
    assert "8 of 8" in capsys.readouterr().err


def test_settings_survive_json():
    settings = RunSettings(seed=3, demos=Path("a.npz"))
    stored = json.loads(json.dumps(to_json(settings)))
    assert to_json(from_json(RunSettings(), stored)) == stored


def test_run_directory_of_other_settings(tmp_path):
    open_directory(tmp_path / "run", {"task": "drawer"})  # nothing was made with these settings
    open_directory(tmp_path / "run", {"task": "peg", "steer": {"worlds": 8}})
    (tmp_path / "run" / "demos.npz").write_text("")
    open_directory(tmp_path / "run", {"task": "peg", "steer": {"worlds": 8}})
    with pytest.raises(UserError, match=r"--steer.worlds 8, not 16.*--overwrite"):
        open_directory(tmp_path / "run", {"task": "peg", "steer": {"worlds": 16}})
    with pytest.raises(UserError, match="--task peg, not gear"):
        open_directory(tmp_path / "run", {"task": "gear", "steer": {"worlds": 8}})
    open_directory(tmp_path / "run", {"task": "gear"}, overwrite=True)


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    (tmp_path / "mine" / "checkpoints").mkdir(parents=True)
    (tmp_path / "mine" / "checkpoints" / "mymodel.pt").write_text("precious")
    with pytest.raises(UserError, match=r"has 'checkpoints' but no config\.json"):
        open_directory(tmp_path / "mine", {}, overwrite=True)
    assert (tmp_path / "mine" / "checkpoints" / "mymodel.pt").exists()
    run = tmp_path / "run"
    (run / ".git").mkdir(parents=True)
    (run / ".git" / "HEAD").write_text("precious")
    open_directory(run, {"task": "peg"})
    (run / "demos.npz").write_text("")
    open_directory(run, {"task": "gear"}, overwrite=True)
    assert (run / ".git" / "HEAD").exists() and not (run / "demos.npz").exists()


def test_run_directory_that_is_none(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "config.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"thesis\.txt"):
            open_directory(tmp_path, {}, overwrite=overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    with pytest.raises(UserError, match="cannot be written"):
        open_directory(tmp_path / "thesis.txt" / "run", {})
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text('{"task": "pe')
    (tmp_path / "half" / "demos.npz").write_text("")
    with pytest.raises(UserError, match="cannot be read"):
        open_directory(tmp_path / "half", {"task": "peg"})


def test_overwrite_spares_its_own_input(tmp_path):
    (tmp_path / "run").mkdir()
    mine = tmp_path / "run" / "demos.npz"
    failures = demos.DemoSet(
        np.zeros((9, 20), np.float32), np.zeros((9, 6), np.float32), np.array([9]), np.array([True])
    )
    demos.save(mine, failures)
    with pytest.raises(UserError, match="move it"):
        open_run(RunSettings(demos=mine), Place(tmp_path / "run", overwrite=True))
    assert mine.exists()


def test_an_edited_task_file_is_noticed(tmp_path):
    task = tmp_path / "mine.py"
    task.write_text((ROOT / "examples" / "push_puck.py").read_text())
    open_run(RunSettings(task=str(task)), Place(tmp_path / "run"))
    load_run(tmp_path / "run")
    task.write_text(task.read_text().replace("0.008)", "0.009)"))
    with pytest.raises(UserError, match=r"success of .* changed since"):
        load_run(tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_may_only_be_read_is_evaluated_all_the_same(small_run, monkeypatch, capsys):
    before = (small_run / "evaluations.json").read_bytes()
    run = load_run(small_run)
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert run.evaluation(run.agent("prior"), episodes=24)["episodes"] == 24
    assert "not kept: no right to write" in capsys.readouterr().err
    assert (small_run / "evaluations.json").read_bytes() == before


@pytest.mark.slow
def test_interrupting_is_no_error(tmp_path):
    process = start("steer.py", "--run-dir", str(tmp_path / "run"), *SMALL)
    while not (tmp_path / "run" / "checkpoints" / "prior").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(6.0)  # into steering
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "interrupted" in err and "Traceback" not in err


def test_reproduce_collects_the_figures_of_finished_runs(small_run, tmp_path, monkeypatch):
    run = shutil.copytree(small_run, tmp_path / "runs" / "peg-native-0")
    out = tmp_path / "results" / "peg.json"
    flags = ["--seeds", "0", "--physics", "native", "--transfer-episodes", "4", "--runs", str(tmp_path / "runs")]
    code, _, err = run_script("reproduce.py", "peg", *flags, "--out", str(out))
    assert code == 2 and "was made with" in err, "a run of another budget is not taken for its own"

    own = reproduction.run_once
    monkeypatch.setattr(reproduction, "run_once", lambda command, folder, *flags: own(command, folder, *flags, *SMALL))
    write_json(run / "cost.json", {"command_wall_s": 60.0, "peak_memory_gb": 1.0})
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    reproduce.main(["peg", *flags, "--out", str(out)])
    (row,) = json.loads(out.read_text())["runs"]
    summary = json.loads((small_run / "summary.json").read_text())
    assert row["expert"]["success"] == summary["expert_success"] and row["command_wall_s"] == 60.0
    assert (row["expert"]["physics"], row["expert_transfer"]["physics"]) == ("native", "mjx")
    assert {row[policy]["episodes"] for policy in ("script", "prior", "expert", "strong_script")} == {16}
    assert (out.parent / "peg_success.png").stat().st_size and (out.parent / "peg_success_lenient.png").stat().st_size


def test_an_ablation_has_a_run_and_a_row_for_each_variant(tmp_path, monkeypatch):
    made = {}

    def run(task, seed, options, run_dir, transfer_episodes):
        made[run_dir.name] = list(options)
        policies = {policy: {"success": 0.5, "ci95": (0.4, 0.6), "success_lenient": None} for policy in POLICIES}
        return {"task": task, "seed": seed, "versions": {}, **policies}

    monkeypatch.setattr(reproduction, "reproduce", run)
    out = tmp_path / "ablation.json"
    flags = ["--seeds", "1", "--tasks", "peg", "--randomization", "strong", "--physics", "native"]
    reproduce.main(["ablation", *flags, "--out", str(out)])
    assert "--steer.noise-cost" not in made["peg-native-strong-1"], "the default is the run of the other experiments"
    assert made["peg-native-strong-no-noise-cost-1"][-2:] == ["--steer.noise-cost", "0"]
    assert len({tuple(options) for options in made.values()}) == len(made) == 1 + len(reproduction.STEERINGS)
    for flag in (flag for flags in reproduction.STEERINGS.values() for flag in flags[::2]):
        assert hasattr(RunSettings().steer, flag.removeprefix("--steer.").replace("-", "_"))
    rows = json.loads(out.read_text())["runs"]
    assert [row.get("name", "") for row in rows] == ["", *reproduction.STEERINGS]
    assert (tmp_path / "ablation_success.png").exists()


POLICIES = ("script", "prior", "expert")


def test_the_generalist_stands_beside_each_shape():

    def figures(success, variants=()):
        return {"success": success, "ci95": [0.1, 0.9], "variants": {v: figures(s) for v, s in variants}}

    policies = {"script": figures(0.2), "prior": figures(0.3)}
    rows = [
        {"task": "pin_in_hub", **policies, "expert": figures(0.8)},
        {"task": "pin_in_hub", **policies, "expert": figures(0.7)},  # of another seed
        {"task": "assembly", **policies, "expert": figures(0.5, [("pin_in_hub", 0.6), ("clip_on_plate", 0.4)])},
    ]
    groups = reproduction.bar_groups(rows, "success", "ci95")
    assert list(groups) == ["pin_in_hub", "assembly", "clip_on_plate"]
    assert groups["pin_in_hub"]["expert"] == (0.8, 0.1, 0.9)
    assert groups["pin_in_hub"]["generalist"] == (0.6, 0.1, 0.9)
    assert groups["clip_on_plate"] == {"generalist": (0.4, 0.1, 0.9)}


def test_no_successful_demonstration_is_a_warning(tmp_path, capsys):
    failures = demos.DemoSet(
        obs=np.random.default_rng(0).normal(size=(40, 20)).astype(np.float32),
        actions=np.zeros((40, 6), np.float32),
        lengths=np.array([20, 20]),
        success=np.zeros(2, bool),
    )
    demos.save(tmp_path / "mine.npz", failures)
    run = open_run(RunSettings(demos=tmp_path / "mine.npz"), Place(tmp_path / "run"))
    assert len(run.demonstrations().lengths) == 2
    assert "no demonstration succeeds" in capsys.readouterr().err


def test_full_disk_keeps_the_last_good_file(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json(path, {"good": 1})
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"good": 2})
    assert json.loads(path.read_text()) == {"good": 1} and [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_example_task_loads():
    assert registry.load_task(str(ROOT / "examples" / "push_puck.py")).name == "push_puck"


# --- students ----------------------------------------------------------------------------------------------------


def test_budget_curves_are_of_tasks_with_both_methods():
    figures = {"success": 0.5, "ci95": (0.4, 0.6)}
    rows = [
        {"task": task, "name": name, "labelled": labelled, "default": figures}
        for task, name, labelled in (
            ("peg", "DAgger-256", 35),
            ("peg", "BC-64", 1),
            ("peg", "rgb", 35),
            ("rail", "DAgger-64", 30),
        )
    ]
    assert reproduction.budget_curves(rows) == {"peg": {"DAgger": [(35, 0.5, 0.4, 0.6)], "BC": [(1, 0.5, 0.4, 0.6)]}}


def test_distill_leaves_a_student_in_the_run_directory(student_run):
    folder = student_run / "students" / "depth"
    files = ("config.json", "metrics.jsonl", "student.mp4", "curves.png")
    assert all((folder / name).stat().st_size > 0 for name in files)
    assert not (folder / "checkpoints" / "labels").exists(), "they are large"
    summary = json.loads((folder / "summary.json").read_text())
    assert {"expert_success", "depth student, visual off", "labelled", "versions"} <= summary.keys()
    assert (summary["ended"], summary["rounds"]) == ("out of rounds", 2)
    code, _, err = call("distill", "--run-dir", str(student_run), *SMALL_STUDENT)
    assert code == 0 and "distil " not in err, "it is not made twice"


def test_a_finished_distillation_goes_on_with_a_larger_budget(student_run, tmp_path):
    run = shutil.copytree(student_run, tmp_path / "run")
    folder = run / "students" / "depth"
    before = [row for row in RunDirectory(folder).rows() if row["phase"] == "distil"]
    more = ("--dagger.rounds", "3", "--dagger.learning-rate", "3e-4")
    code, _, err = call("distill", "--run-dir", str(run), *SMALL_STUDENT, *more)
    assert code == 0, err
    after = [row for row in RunDirectory(folder).rows() if row["phase"] == "distil"]
    assert after[: len(before)] == before and [row["round"] for row in after] == [1, 2, 3]
    assert after[2]["labelled"] > after[1]["labelled"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["rounds"] == 3 and summary["labelled"] == after[2]["labelled"]
    (event,) = json.loads((folder / "config.json").read_text())["history"]
    assert event["settings"] == {"dagger.rounds": 2, "dagger.learning_rate": DaggerConfig().learning_rate}


def same_policy(run: Path, kit: Path) -> None:
    """The exported student does what the one in memory does, fast enough, and refuses pictures of another size."""
    teacher = load_student(load_run(run), "depth")
    rng, card = np.random.default_rng(0), json.loads((kit / "card.json").read_text())
    felt = rng.normal(size=(1, card["inputs"]["vector"]["size"])).astype(np.float32)
    seen = rng.uniform(0.1, 1, (1, *card["inputs"]["pictures"]["shape"])).astype(np.float32)
    program = jax.jit(jax.export.deserialize(bytearray((kit / "policy.jax").read_bytes())).call)
    key = np.array([0, 1], np.uint32)
    there = program(felt, seen, key)
    here = student.act(teacher.student(), student.Percept(felt, seen), jax.random.wrap_key_data(key))
    np.testing.assert_allclose(there, here, atol=1e-5)
    assert np.abs(there).max() > 0
    start = time.perf_counter()
    for _ in range(20):
        program(felt, seen, key).block_until_ready()
    assert (time.perf_counter() - start) / 20 < 0.010
    with pytest.raises(ValueError, match="shape"):
        program(felt, seen[:, :, :8], key)


def test_an_expert_is_exported(small_run, tmp_path):
    flags = ("--run-dir", str(small_run), "--policy", "expert", "--out", str(tmp_path / "kit"))
    code, _, err = call("export", *flags, "--also", "safetensors")
    assert code == 0, err
    run = load_run(small_run)
    program = jax.export.deserialize(bytearray((tmp_path / "kit" / "policy.jax").read_bytes())).call
    agent, world = run.agent("expert"), episode.reset(run.env, jax.random.key(0))
    weights = safetensors.numpy.load_file(tmp_path / "kit" / "policy.safetensors")
    assert sum(x.size for x in weights.values()) == sum(x.size for x in jax.tree.leaves(agent.params))
    page = (tmp_path / "kit" / "README.md").read_text()
    assert "# peg: expert" in page and "| `tip_position` | m | 3 |" in page and "`policy.safetensors`" in page
    memory, before = agent.init(jax.random.key(0)), world.obs
    for _ in range(2):
        memory, here = agent.act(memory, world, jax.random.key(0))
        vectors = np.stack([world.obs, before])
        there = program(vectors, np.zeros((2, 0), np.float32), np.zeros(2, np.uint32))
        np.testing.assert_allclose(there, here, atol=1e-5)
        before, (world, _) = world.obs, episode.advance(run.env, world, here)
    code, out, err = run_script("../examples/deploy.py", str(tmp_path / "kit"), "1")
    assert code == 0 and "expert of peg" in out, err
    a_simulated_robot_stops_where_nobody_drives_it(tmp_path / "kit")


def a_simulated_robot_stops_where_nobody_drives_it(kit):
    process, port = simulator.spawn(kit)
    robot = Client(port)
    robot.start(3)
    reading = robot.read()
    assert not reading["stopped"] and np.abs(reading["qvel"]).max() < 0.1
    target = reading["ctrl"] + np.float32([0.006, 0, 0, 0, 0, 0])
    robot.send(target)
    time.sleep(0.4)  # as if the policy's process had died
    reading = robot.read()
    assert reading["stopped"] == "nothing was sent for 100 ms" and np.abs(reading["qvel"]).max() < 0.005
    with pytest.raises(ValueError, match="nothing was sent"):
        robot.send(target)
    with pytest.raises(ValueError, match="expected \\(6,\\)"):
        robot.send(np.zeros(2))
    with process:
        process.kill()
    with pytest.raises((EOFError, OSError)):
        robot.read()
    robot.close()


def it_sees_what_students_see(run, kit):
    robot, env = simulator.Simulator(kit), load_run(run).env
    robot.start(5)
    pictures = robot.pictures()
    world = jax.jit(lambda key: episode.reset(env, key))(jax.random.key(5))
    seen = np.minimum(appearance.see_plainly(env, world, pictures.shape[1]).depth, 1.0)
    assert (np.abs(pictures[..., 0] - seen) < 0.002).mean() > 0.98


def test_a_student_is_evaluated_and_exported(student_run, tmp_path):
    flags = ("--run-dir", str(student_run), "--policy", "student")
    code, out, err = call("evaluate", *flags, "--visual", "strong", "--episodes", "4")
    assert code == 0 and "depth student, visual strong" in out, err
    code, out, err = call("export", *flags, "--out", str(tmp_path / "kit"))
    assert code == 0, err
    same_policy(student_run, tmp_path / "kit")
    flags = (str(tmp_path / "kit"), "--decisions", "5", "--out", str(tmp_path / "latency.json"))
    code, out, err = run_script("../benchmarks/latency.py", *flags)
    assert code == 0, err
    (row,) = json.loads((tmp_path / "latency.json").read_text())["rows"]
    assert row["policy"] == "student depth" and 0 < row["ms"]["median"] <= row["ms"]["99 %"] <= row["ms"]["most"]
    code, out, err = run_script("../examples/deploy.py", str(tmp_path / "kit"), "1")
    assert code == 0 and "ms to act" in out, err
    flags = ("--episodes", "1", "--steps", "8", "--heartbeat", "1", "--log", str(tmp_path / "log"))
    code, out, err = call("deploy", str(tmp_path / "kit"), *flags)
    assert code == 0 and "student depth of peg: 0 of 1 episodes" in out, err
    assert len((tmp_path / "log" / "episode-1.jsonl").read_text().splitlines()) == 9
    assert (tmp_path / "log" / "episode-1.png").stat().st_size > 0
    summary = json.loads((tmp_path / "log" / "summary.json").read_text())
    assert summary["steps"] == 8 and summary["success"] == 0 and len(summary["episodes"]) == 1
    it_sees_what_students_see(student_run, tmp_path / "kit")
    card = tmp_path / "kit" / "card.json"
    card.write_text(card.read_text().replace('"version": 3', '"version": 99'))
    code, _, err = run_script("../examples/deploy.py", str(tmp_path / "kit"))
    assert code != 0 and err.strip().endswith("version 99 of the format; this script knows version 3")
    card.write_text(card.read_text().replace('"version": 99', '"version": 3'))
    program = (tmp_path / "kit" / "policy.jax").read_bytes()
    (tmp_path / "kit" / "policy.jax").write_bytes(program[:4096] + bytes(64) + program[4160:])
    code, _, err = run_script("../examples/deploy.py", str(tmp_path / "kit"))
    assert code != 0 and "policy.jax: missing or damaged" in err and "Traceback" not in err
    for flags, problem in (((), "required: folder"), ((str(tmp_path),), "no card.json"), ((".", "0"), "at least 1")):
        code, _, err = run_script("../examples/deploy.py", *flags)
        assert code != 0 and problem in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("script", "flags", "problem"),
    [
        ("distill", ("--student.image-size", "20"), "--student.image-size must be a multiple of 8, got 20"),
        (
            "distill",
            ("--student.image-size", "24"),
            "was made with --student.image-size 16, not 24: choose another --name",
        ),
        ("distill", ("--dagger.worlds", "8"), "was made with --dagger.worlds 4, not 8: choose another --name"),
        ("distill", ("--dagger.alpha-end", "1.5"), "--dagger.alpha-end must be at most 1"),
        ("distill", ("--name", "../elsewhere"), "a plain name, please"),
        ("distill", ("--name", "..", "--overwrite"), "a plain name, please"),
        ("evaluate", ("--policy", "student", "--student", "rgb"), "--student rgb: the run has depth"),
        ("export", ("--student", "rgb"), "--student rgb: the run has depth"),
    ],
)
def test_mistakes_with_students_are_explained_in_one_line(student_run, script, flags, problem):
    code, _, err = call(script, "--run-dir", str(student_run), *(SMALL_STUDENT if script == "distill" else ()), *flags)
    assert code == 2
    assert problem in err.strip().splitlines()[-1]


def test_a_run_without_students_says_what_makes_them(small_run):
    code, _, err = call("export", "--run-dir", str(small_run))
    assert code == 2 and "error: --student: the run has none; distill makes them" in err


def test_a_run_without_an_expert_teaches_nobody(small_run, tmp_path):
    run = tmp_path / "unfinished"
    shutil.copytree(small_run, run)
    shutil.rmtree(run / "checkpoints" / "expert")
    code, _, err = call("distill", "--run-dir", str(run))
    assert code == 2 and "holds no expert yet: finish steer with the same directory first" in err


def test_reproduce_says_where_no_task_has_what_is_asked_for(tmp_path):
    code, _, err = call("reproduce", "tabletop", "--grasp", "held", "--out", str(tmp_path / "table.json"))
    assert code == 2 and "none of its tasks has a choice of starts and grasp" in err, err
    assert not (tmp_path / "table.json").exists()


@pytest.mark.slow
def test_interrupting_reproduce_ends_its_run(tmp_path):
    process = start("reproduce.py", "peg", "--seeds", "1", "--runs", str(tmp_path), "--out", str(tmp_path / "peg.json"))
    while not (tmp_path / "peg-native-1" / "config.json").exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "interrupted" in err, err
    lock = os.open(tmp_path / "peg-native-1" / ".lock", os.O_RDWR)
    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody is at work there any more
    os.close(lock)
