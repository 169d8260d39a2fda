"""What an artefact's `card.json` says, as a page for people: `README.md`, which Hugging Face's Hub shows."""

import json
from collections.abc import Mapping
from typing import Any

PAGE = """---
{front}
---

# {task}: {policy}

{what} of the task `{task}`, made by expertgen_jax. {made} `card.json` says the same as this page, for programs.

## Measured

| what was played | success | 95 % interval |
|---|---|---|
{measured}

## What goes in

Every {decision_dt:g} s {entries} numbers, in this order{past}:

| part | unit | numbers |
|---|---|---|
{vector}

{history}{pictures}

`sense` and `control` read MuJoCo's fields {read}. Joints, in order: {joints}.

## What comes out

{chunk} actions of {action_size} numbers in [-1, 1], one every {control_dt:g} s; `control` turns each into commands to
the actuators, in order: {actuators}. A robot refuses commands that move further in a step than {limits}.

## Use

```sh
pip install expertgen-jax
expertgen deploy FOLDER
```

Without that package: `jax.export.deserialize` reads `policy.jax`, for CPU and CUDA.{also}

## Limits

It was trained in simulation, and nothing here has run on a real arm. It knows the one task, from the starts that the
task draws, under the randomisation that the measurements name.
"""


STEERED = "A diffusion policy cloned from imperfect demonstrations, whose noise reinforcement learning has steered."


def page(card: Mapping[str, Any]) -> str:
    """The page of a card."""
    inputs, pictures, output = card["inputs"], card["inputs"]["pictures"], card["output"]
    state = pictures["kind"] == "state"
    entries = inputs["vector"]["entries"]
    measured = [
        f"| {label} | {x['success']:.1%} | {x['ci95'][0]:.1%} to {x['ci95'][1]:.1%} |"
        for label, x in card["measured"].items()
    ]
    past, also = inputs["past_actions"], card["also"]
    return PAGE.format(
        front=_front(card),
        task=card["task"],
        policy=card["policy"],
        what="The expert, which sees the state," if state else "A student, which sees what a robot sees,",
        made=STEERED if state else f"It learnt by DAgger from an expert: {STEERED[0].lower()}{STEERED[1:]}",
        measured="\n".join(measured) or "| nothing yet | | |",
        decision_dt=card["decision_dt"],
        history="" if inputs["history"] == 1 else f"The last {inputs['history']} decisions' go in, the newest first. ",
        entries=inputs["vector"]["size"],
        past="; the last of them are past actions, the newest first" if past else "",
        vector="\n".join(f"| `{name}` | {x['unit']} | {x['size']} |" for name, x in entries.items()),
        pictures="No pictures."
        if not pictures["order"]
        else f"Pictures of {', '.join(pictures['cameras'])}, `{pictures['shape']}`: {pictures['kind']} in "
        f"{pictures['unit']}; axes: {pictures['order']}.",
        read=", ".join(f"`{name}`" for name in card["state"]["read"]),
        joints=", ".join(f"`{name}`" for name in card["joints"]),
        chunk=output["shape"][0],
        action_size=output["shape"][1],
        control_dt=card["control_dt"],
        actuators=", ".join(f"`{name}`" for name in card["actuators"]),
        limits=", ".join(f"{x:g}" for x in card["limits"]["largest_step"]),
        also=f" Besides there are {', '.join(f'`{name}`' for name in also)}." if also else "",
    )


def _front(card: Mapping[str, Any]) -> str:
    """The Hub's metadata; JSON is YAML."""
    name = f"{card['policy']} of {card['task']}"
    results = [
        {
            "task": {"type": "robotics", "name": card["task"]},
            "dataset": {"type": "simulation", "name": label},
            "metrics": [{"type": "success_rate", "value": x["success"]}],
        }
        for label, x in card["measured"].items()
    ]
    front: dict[str, Any] = {
        "library_name": "expertgen-jax",
        "pipeline_tag": "robotics",
        "tags": ["robotics", "reinforcement-learning", "imitation-learning", "diffusion-policy", "jax", "mujoco"],
    }
    if results:
        front["model-index"] = [{"name": name, "results": results}]
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())
