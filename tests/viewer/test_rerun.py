"""Recordings for Rerun, read by Rerun."""

import collections
import dataclasses

import mujoco
import numpy as np
import pytest
from rerun.chunk import RrdReader
from toy import TOY

from expertgen_jax.sim import episode, rollout
from expertgen_jax.viewer import rerun
from expertgen_jax.viewer.session import Session

SEED = 3


def scene():
    spec = TOY.scene()
    spec.worldbody.add_geom(
        name="a/tilted one", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.1, 0.2, 0.3], pos=[1, 2, 3], quat=[0.8, 0.6, 0, 0]
    )
    return spec


@pytest.fixture(scope="module")
def session():
    task = dataclasses.replace(TOY, scene=scene, horizon=6)
    return Session(episode.make_env(task, "native"), rollout.untrained_agents(task), "random", SEED)


def read(path):
    """`{entity: {component: [(time, values), ...]}}`, by time; without what Rerun adds of itself."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for chunk in RrdReader(path).stream():
        batch = chunk.to_record_batch()
        if "time" in batch.schema.names:
            times = [1e-9 * time for time in batch.column("time").cast("int64").to_pylist()]
            for name in batch.schema.names:
                if ":" in name:
                    rows = zip(times, batch.column(name).to_pylist(), strict=True)
                    found[chunk.entity_path][name] += [row for row in rows if row[1] is not None]
    return found


def test_it_holds_what_the_session_shows(session, tmp_path):
    rerun.write(tmp_path / "a.rrd", session, 2)
    found = read(tmp_path / "a.rrd")
    assert not list(tmp_path.glob(".*")), "nothing half-written"
    played, texts, begin = [], [], 0.0
    for seed in (SEED, SEED + 1):
        session.reset(seed)
        while True:
            parts = session.observation | {"action": session.action}
            played.append((begin + session.data.time, parts, session.data.geom_xpos.copy()))
            if session.over:
                break
            session.step()
        texts += [f"random, episode {seed}", session.ending]
        begin = played[-1][0] + TOY.control_dt
    assert len(played) == 14 and [value for _, (value,) in found["/episode"]["TextLog:text"]] == texts
    geoms = {f"/scene/{name}": geom for name, geom in (("table", 0), ("a\\/tilted\\ one", 1), ("geom\\ 2", 2))}
    for entity, geom in geoms.items():
        poses = found[entity]["Transform3D:translation"]
        assert len(found[entity]["Mesh3D:vertex_positions"]) == 2
        for (time, (place,)), (when, _, places) in zip(poses, played, strict=True):
            assert time == pytest.approx(when, abs=1e-6)
            np.testing.assert_allclose(place, places[geom], atol=1e-6)
    for name, entity in (("x", "/observation/x"), ("goal", "/observation/goal"), ("action", "/action")):
        for (_, values), (_, parts, _) in zip(found[entity]["Scalars:scalars"], played, strict=True):
            np.testing.assert_allclose(values, parts[name], atol=1e-6)


def test_things_are_turned_as_in_mujoco(session, tmp_path):
    rerun.write(tmp_path / "a.rrd", session, 1)
    _, (columns,) = read(tmp_path / "a.rrd")["/scene/a\\/tilted\\ one"]["Transform3D:mat3x3"][0]
    np.testing.assert_allclose(np.reshape(columns, (3, 3)).T.ravel(), session.data.geom_xmat[1], atol=1e-6)
