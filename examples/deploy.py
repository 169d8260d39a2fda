"""Runs an exported policy on MuJoCo's C engine; imports nothing of expertgen_jax.

    python examples/deploy.py runs/peg-0/export [episodes]

On a robot, `sense` and `pictures` would read its joints and cameras, and `control`'s targets go to its drives.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import jax.export
import mujoco
import numpy as np

STATE = [
    *("qpos", "qvel", "ctrl", "time", "xpos", "xquat", "xmat", "site_xpos", "site_xmat", "sensordata", "mocap_pos"),
    "mocap_quat",
]


def load(folder: Path):
    try:
        card = json.loads((folder / "card.json").read_text())
        version, digests = card["version"], card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{folder}: no card.json of an exported policy there ({error})")
    if version != 3:
        sys.exit(f"{folder}: version {version} of the format; this script knows version 3")
    for name, digest in digests.items():
        path = folder / f"{name}.jax"
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            sys.exit(f"{path}: missing or damaged; export the policy again")
    programs = {
        name: jax.jit(jax.export.deserialize(bytearray((folder / f"{name}.jax").read_bytes())).call) for name in digests
    }
    return card, programs, mujoco.MjModel.from_xml_path(str(folder / "scene.xml"))


def state_of(model, data):
    shapes = {"xmat": (model.nbody, 3, 3), "site_xmat": (model.nsite, 3, 3)}
    return {
        name: np.float32(getattr(data, name)).reshape(shapes.get(name, np.shape(getattr(data, name)))) for name in STATE
    }


def pictures(model, data, wanted, rng):
    """What the cameras of a card see, of its kind and shape, by ray casting."""
    if wanted["kind"] not in ("depth", "rgb", "points"):
        return np.zeros(0, np.float32)
    views = [picture(model, data, view, wanted["size"]) for view in wanted["cameras"].values()]
    depth, rgb, points = (np.stack(x) for x in zip(*views, strict=True))
    if wanted["kind"] == "depth":
        return np.minimum(depth, 1.0)[..., None].astype(np.float32)
    if wanted["kind"] == "rgb":
        return rgb.astype(np.float32)
    box = wanted["workspace"]
    low, high, body = np.array(box["low"]), np.array(box["high"]), model.body(box["body"] or "world").id
    points = (points[np.isfinite(depth)] - data.xpos[body]) @ data.xmat[body].reshape(3, 3)
    points = points[((points > low) & (points < high)).all(-1)]
    if not len(points):
        points = (low + high)[None] / 2
    return points[rng.integers(len(points), size=wanted["points"])].astype(np.float32)


def picture(model, data, view, size):
    """What a camera sees: depth along the optical axis (m), colours, places in the world (m)."""
    body = model.body(view["body"] or "world").id
    pos, mat = data.xpos[body], data.xmat[body].reshape(3, 3)
    back = np.subtract(view["eye"], view["target"]) / np.linalg.norm(np.subtract(view["eye"], view["target"]))
    right = np.array([1.0, 0, 0]) if abs(back[2]) > 1 - 1e-6 else np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    half, pixels = np.tan(view["fovy"] / 2), (2 * np.arange(size) + 1) / size - 1
    x, y = np.meshgrid(pixels, -pixels)
    rays = (x[..., None] * half * right + y[..., None] * half * np.cross(back, right) - back).reshape(-1, 3) @ mat.T
    length, eye = np.linalg.norm(rays, axis=1), pos + mat @ view["eye"]
    geom, distance, normal = np.zeros(len(rays), np.int32), np.zeros(len(rays)), np.zeros((len(rays), 3))
    groups, unit = np.array([1, 1, 1, 0, 0, 0], np.uint8), (rays / length[:, None]).ravel()
    mujoco.mj_multiRay(model, data, eye, unit, groups, 1, -1, geom, distance, normal.ravel(), len(rays), 10.0)
    depth = np.where(geom < 0, np.inf, distance / length)
    lamp = np.array([0.4, -0.4, 0.8]) / np.sqrt(0.96)
    shade = 0.4 + 0.6 * np.maximum(normal @ lamp, 0.0)
    material = model.geom_matid[geom]
    paint = np.where(material[:, None] >= 0, model.mat_rgba[material] if model.nmat else 0.0, model.geom_rgba[geom])
    rgb = np.where(geom[:, None] < 0, 1.0, np.minimum(paint[:, :3] * shade[:, None], 1.0))
    shape = (size, size)
    return depth.reshape(shape), rgb.reshape(*shape, 3), (eye + (depth[:, None] * rays)).reshape(*shape, 3)


def play(card, programs, model, seed):
    start, data = programs["reset"](np.uint32(seed)), mujoco.MjData(model)
    for name, values in start["fields"].items():
        getattr(model, name)[:] = values
    for name in ("qpos", "ctrl", "mocap_pos", "mocap_quat"):
        if name in start:
            getattr(data, name)[:] = start[name]
    mujoco.mj_forward(model, data)
    context, held, rng = start["context"], 0, np.random.default_rng(seed)
    past = np.zeros((card["inputs"]["past_actions"], card["output"]["shape"][1]), np.float32)

    def updated(context, step):
        key = np.array([seed, 1000 + step], np.uint32)
        return programs["update"](state_of(model, data), context, key) if "update" in programs else context

    context = updated(context, -1)
    vectors: list = []
    seen: list = []
    latencies: list = []
    for step in range(card["horizon"]):
        if step % card["output"]["shape"][0] == 0:
            began, count = time.perf_counter(), card["inputs"]["history"]
            sensed = np.append(programs["sense"](state_of(model, data), context), past)
            vectors = [sensed, *vectors][:count]
            seen = [pictures(model, data, card["inputs"]["pictures"], rng), *seen][:count]
            percepts = [np.stack((x + x[-1:] * count)[:count]) for x in (vectors, seen)]
            ready = time.perf_counter()
            chunk = np.asarray(programs["policy"](*percepts, np.array([seed, step], np.uint32)))
            latencies.append((ready - began, time.perf_counter() - ready))
        action = chunk[step % len(chunk)]
        past = np.concatenate([action[None], past])[: len(past)]
        data.ctrl[:] = programs["control"](state_of(model, data), action)
        mujoco.mj_step(model, data, card["substeps"])
        context = updated(context, step)
        held = held + 1 if programs["success"](state_of(model, data), context) else 0
        if held == card["hold"]:
            return True, latencies
    return False, latencies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Runs an exported policy on MuJoCo's C engine.")
    parser.add_argument("folder", type=Path, help="what `expertgen export` wrote")
    parser.add_argument("episodes", type=int, nargs="?", default=10, help="how many to play (10)")
    args = parser.parse_args()
    if args.episodes < 1:
        parser.error("episodes must be at least 1")
    card, programs, model = load(args.folder)
    play(card, programs, model, seed=0)  # compiles
    episodes = [play(card, programs, model, seed) for seed in range(1, 1 + args.episodes)]
    sensing, acting = 1000 * np.median([pair for _, latencies in episodes for pair in latencies], axis=0)
    print(f"{card['policy']} of {card['task']}: {sum(ok for ok, _ in episodes)} of {len(episodes)} episodes succeed")
    print(f"median latency: {sensing:.1f} ms to see, {acting:.1f} ms to act, every {1000 * card['decision_dt']:.0f} ms")
