"""The tables of the documentation that are made of `results/`: figures of runs, students, speed and other libraries."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expertgen_jax.tasks.assembly.shapes import SHAPES

RESULTS = Path(__file__).parents[1] / "results"
RUNS = [(family, level) for family in ("peg", "assembly", "tabletop") for level in ("", "default", "strong")]
"""Files of experts: what they are of, and how randomised."""
OTHERS = [
    *(("assembly", kind) for kind in ("held", "panda", "panda_automate", "default_panda")),
    ("tabletop", "panda"),
]
"""Those of experts with a plug that slips, and with the arm."""


def load(name: str) -> dict[str, Any]:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def percent(figures: Mapping[str, Any], rule: str = "success", interval: str = "") -> str:
    """A rate, with its interval where one is named."""
    if figures[rule] is None:
        return ""
    low, high = (100 * bound for bound in figures[interval]) if interval else (0, 0)
    return f"{figures[rule]:.1%}".replace("%", " %") + (f" [{low:.1f}, {high:.1f}]" if interval else "")


def of(run: Mapping[str, Any]) -> dict[str, str]:
    """Task and seed of a run."""
    return {"task": f"`{run['task']}`", "seed": str(run["seed"])}


def success_columns(run: Mapping[str, Any]) -> dict[str, str]:
    """Script, prior and expert of a run."""
    return {
        "script": percent(run["script"]),
        "prior": percent(run["prior"]),
        "expert [95 %]": f"**{percent(run['expert'], interval='ci95')}**",
        "on MJX": percent(run["expert_transfer"]),
    }


def seconds(run: Mapping[str, Any]) -> str:
    """Wall time of the whole command."""
    return "" if run["command_wall_s"] is None else f"{run['command_wall_s']:.0f} s"


def mean(runs: list[dict[str, Any]], policy: str, rule: str = "success") -> str:
    """The mean rate over runs."""
    return percent({rule: sum(run[policy][rule] for run in runs) / len(runs)}, rule)


def peg() -> str:
    """Three runs of the tutorial."""
    return table(
        [
            {
                "seed": str(run["seed"]),
                **success_columns(run),
                "episodes": f"{run['train_episodes']:,}",
                "wall time": seconds(run),
            }
            for run in load("peg")["runs"]
        ]
    )


def assembly() -> str:
    """Insertions."""
    rows = []
    for run in load("assembly")["runs"]:
        lenient = percent(run["expert"], "success_lenient")
        rows.append({**of(run), **success_columns(run), "lenient": lenient, "wall time": seconds(run)})
    return table(rows)


def generalist() -> str:
    """One policy for nine shapes: its success on each of them."""
    runs = [run for run in load("assembly")["runs"] if run["task"] == "assembly"]
    found = {f"seed {run['seed']}": run["expert"]["variants"] for run in runs}
    return table([{"": f"`{name}`", **{s: percent(x[name]) for s, x in found.items()}} for name in SHAPES])


def others() -> str:
    """Experts with a plug that slips, and with the arm."""
    rows = []
    for name in OTHERS:
        data = load("_".join(name))
        for run in data["runs"]:
            made = {name: data[name] for name in ("robot", "starts", "grasp")} | {"level": data["randomization"]}
            rows.append({**of(run), **made, **success_columns(run), "wall time": seconds(run)})
    return table(rows)


def tabletop() -> str:
    """Tasks on a table beside the paper's figures."""
    rows = []
    for run in load("tabletop")["runs"]:
        rows.append({**of(run), **success_columns(run), "wall time": seconds(run)})
    return table(rows)


def randomised_runs(*levels: str) -> list[dict[str, Any]]:
    """Runs under randomised physics."""
    return [
        {**run, "level": level}
        for level in levels
        for family in ("assembly", "tabletop")
        for run in load(f"{family}_{level}")["runs"]
    ]


def randomised() -> str:
    """Experts that are trained under randomised physics, there and without it."""
    rows = []
    for run in randomised_runs("default", "strong"):
        rows.append(
            {
                **of(run),
                "level": run["level"],
                **success_columns(run),
                "without randomisation": percent(run["expert_off"]),
                "episodes": f"{run['train_episodes']:,}",
                "wall time": seconds(run),
            }
        )
    return table(rows)


def paper() -> str:
    """What the authors of ExpertGen report."""
    told = {run["task"]: run["paper"] for run in load("tabletop")["runs"]}
    rows = [
        {"task": f"`{task}`", **{n: f"{x:.1%}".replace("%", " %") for n, x in paper.items()}}
        for task, paper in told.items()
    ]
    return table(rows)


def students() -> str:
    """Students, under the default visual randomisation, of experts of nominal and of randomised physics."""
    sees = {"rgb": "colour", "blank": "nothing", "strong": "depth, strong"}
    physics, rows = {"off": "nominal", "default": "randomised"}, []
    for name in ("distillation", "distillation_panda", "distillation_default"):
        data = load(name)
        experts = {(run["task"], run["seed"]): percent(run["expert"]) for run in data["runs"]}
        for row in data["students"]:
            opengl = percent(row["opengl"]) if "opengl" in row else ""
            rows.append(
                {
                    "task": f"`{row['task']}`",
                    "robot": data["robot"],
                    "physics": physics[data["randomization"]],
                    "sees": sees.get(row["name"], row["name"]),
                    "expert": experts[row["task"], row["seed"]],
                    "student [95 %]": f"**{percent(row['default'], interval='ci95')}**",
                    "plain pictures": percent(row["off"]),
                    "strong": percent(row["strong"]) if "strong" in row else "",
                    "MuJoCo's renderer": opengl,
                    "labels": f"{row['labelled']:,}",
                    "time": f"{row['distil_s']:.0f} s",
                }
            )
    return table(rows)


def budgets() -> str:
    """DAgger and behaviour cloning by the episodes a round, of the version before."""
    rows = []
    for name, task in (("distillation_before", "peg"), ("distillation_rail", "block_on_rail")):
        found = {row["name"]: row for row in load(name)["students"] if row["task"] == task}
        found["DAgger-256"] = found["depth"]
        for method in ("DAgger", "BC"):
            row = {"": f"`{task}`, {method}"}
            for worlds in (7, 21, 70, 256, 700):
                student = found.get(f"{method}-{worlds}")
                row[str(worlds)] = "" if student is None else f"{percent(student['default'])} ({student['labelled']:,})"
            rows.append(row)
    return table(rows)


def throughput() -> str:
    """Steps a second of the parts and of the loop."""
    names = {
        "physics_steps_per_s": "physics alone, substeps/s",
        "acting_env_steps_per_s": "acting, control steps/s",
        "updates_per_s": "critic updates/s (batch 512)",
        "iteration_env_steps_per_s": "whole iteration, control steps/s",
        "depth_32x32_per_s": "depth pictures/s, 32 x 32",
        "depth_64x64_per_s": "depth pictures/s, 64 x 64",
        "colour_64x64_per_s": "colour pictures/s with patterns and shadows, 64 x 64",
    }
    columns = {row["physics"]: row for row in load("throughput")["rows"]}
    return table([{"": text, **{p: f"{row[key]:,.0f}" for p, row in columns.items()}} for key, text in names.items()])


def headline() -> str:
    """Means of the families and the tutorial, for the README."""
    seeds = load("peg")["runs"]
    families = {
        "shapes of AutoMate": [run for run in load("assembly")["runs"] if run["task"] in SHAPES],
        "table-top tasks": load("tabletop")["runs"],
        "tasks under randomised physics": randomised_runs("default"),
        "tasks under strongly randomised physics": randomised_runs("strong"),
    }
    first = {text: [run for run in runs if run["seed"] == 1] for text, runs in families.items()}
    groups = {f"{len(runs)} {text}": runs for text, runs in first.items()}
    rows = []
    for text, runs in ({f"`peg`, seeds 1 to {len(seeds)}": seeds} | groups).items():
        worst = min(runs, key=lambda run: run["expert"]["success"])
        rows.append(
            {
                "": text,
                "script": mean(runs, "script"),
                "prior": mean(runs, "prior"),
                "expert": f"**{mean(runs, 'expert')}**",
                "worst": percent(worst["expert"]),
                "on MJX": mean(runs, "expert_transfer"),
            }
        )
    return table(rows)


def interoperability() -> str:
    """What other libraries made of what goes out."""

    def told(found: Mapping[str, Any]) -> Iterator[str]:
        if "episodes" in found:
            same = "bit-identical" if found["bit_identical"] else "not the same"
            yield f"{found['episodes']} episodes, {found['frames']} frames, actions and observations {same}"
        if found.get("checker"):
            yield "its checker passes"
        if "loss" in found:
            yield f"{found['learner']}: loss {found['loss']['first']:.3g} to {found['loss']['last']:.3g}"
        elif "returns" in found:
            yield f"{found['learner']}: return {found['returns'][0]:.2f} to {found['returns'][-1]:.2f}"
        elif "learner" in found:
            yield f"{found['learner']} plays {found['steps']} steps"
        if "from_a_file" in found:
            prior, expert = ({"success": found[f"{who}_success"]} for who in ("prior", "expert"))
            reached = percent(expert | {"ci95": found["ci95"]}, interval="ci95")
            yield f"steered from a file of its script's demonstrations: prior {percent(prior)}, expert {reached}"
        for policy, apart in found.get("largest_difference", {}).items():
            yield f"{policy}: actions at most {apart:.1g} apart from JAX"

    return table(
        [
            {
                "library": f"{name} {found['version']}",
                "task": f"`{found['task']}`",
                "what it made of it": "; ".join(told(found)),
                "JAX": found["versions"]["jax"],
            }
            for name, found in load("interoperability").items()
        ]
    )


def recordings() -> str:
    """What is left of recorded successes."""
    found = load("recordings")
    told = {"states": "states", "tool": "poses of the tool"}
    return table(
        [
            {
                "task": f"`{row['task']}`",
                "robot": row["robot"],
                f"recorded at {found['rate']:g} Hz": told[row["recorded"]],
                "successes": f"{row['successes']}",
                "are successes again": f"{100 * row['still']:.1f} %",
            }
            for row in found["rows"]
        ]
    )


def learnt_from_recordings() -> str:
    """What prior and expert come to, by how the same episodes were recorded."""
    found = load("recordings_learnt")
    told = {"episodes": "as it was played", "lerobot": "through a LeRobotDataset"}
    told |= {"states": f"states at {found['rate']:g} Hz"}
    return table(
        [
            {
                "task": f"`{row['task']}`",
                "of episodes": f"{row['successes']} of {found['episodes']:,} succeed",
                "recorded": told[row["recorded"]],
                "prior [95 %]": percent(row["prior"], interval="ci95"),
                "expert [95 %]": percent(row["expert"], interval="ci95"),
            }
            for row in found["rows"]
            if "expert" in row
        ]
    )


def faults() -> str:
    """How soon the simulated robot stands still."""
    return table(
        [
            {
                "what breaks": row["fault"],
                "robot stands still after (median, most)": "{:.0f}, {:.0f} ms".format(*row["stopped_ms"]),
                "a line, a whole log": f"{row['one_line']}, {row['whole_log']} of {row['repeats']}"
                if "one_line" in row
                else "the robot stops by itself",
            }
            for row in load("faults")["rows"]
        ]
    )


def latency() -> str:
    """How long exported policies take to decide."""
    return table(
        [
            {
                "task": f"`{row['task']}`",
                "policy": row["policy"],
                "a decision takes (median, 99 %, most)": "{median:.1f}, {99 %:.1f}, {most:.1f} ms".format(**row["ms"]),
            }
            for row in load("latency")["rows"]
        ]
    )


TABLES = {
    function.__name__: function
    for function in (
        peg,
        assembly,
        generalist,
        others,
        tabletop,
        randomised,
        paper,
        students,
        budgets,
        throughput,
        interoperability,
        recordings,
        learnt_from_recordings,
        faults,
        latency,
        headline,
    )
}
"""By the name between the markers."""


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table; columns in the order of the first row."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row.get(column, "") for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
