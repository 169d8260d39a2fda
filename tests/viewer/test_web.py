"""The page: what it is made of, and once in a browser."""

import importlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import mujoco
import numpy as np
import pytest
import viser
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import sync_playwright
from toy import HORIZON, TOY

from expertgen_jax.errors import UserError
from expertgen_jax.sim import rollout
from expertgen_jax.task import Spectator
from expertgen_jax.viewer import web
from expertgen_jax.viewer.session import Picture, Session

CHROMIUM = shutil.which("chromium")
CHROMIUM_OPTIONS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
PATIENCE = 60  # seconds; without a GPU the browser draws a picture or two in one


@pytest.fixture
def session():
    sizes = TOY.scene().compile().geom_size

    def reset(key):
        return TOY.reset(key)._replace(fields={"geom_size": sizes * jax.random.uniform(key, minval=0.5)})

    from dataclasses import replace

    task = replace(TOY, reset=reset)
    return Session(rollout.make_env(task, "native"), rollout.untrained_agents(task), "script")


@pytest.fixture
def server():
    server = viser.ViserServer(port=0, verbose=False)
    yield server
    server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def test_every_kind_of_geom_has_its_shape():
    spec = mujoco.MjSpec()
    vertices = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]
    spec.add_mesh(name="mesh", uservert=vertices)
    kinds = ("PLANE", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX", "MESH")
    for kind in kinds:
        mesh = {"meshname": "mesh"} if kind == "MESH" else {}
        spec.worldbody.add_geom(type=getattr(mujoco.mjtGeom, f"mjGEOM_{kind}"), size=[0.1, 0.2, 0.3], **mesh)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[1, 1, 1], group=3)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[1, 1, 1], rgba=[1, 1, 1, 0])
    model = spec.compile()
    shapes = web.shapes(model)
    assert list(shapes) == list(range(len(kinds)))
    for geom in range(1, len(kinds)):
        middle, half = np.split(model.geom_aabb[geom], 2)
        np.testing.assert_allclose(shapes[geom].bounds, [middle - half, middle + half], atol=2e-3)
        assert shapes[geom].volume > 0, f"{kinds[geom]}: seen from inside"
    np.testing.assert_allclose(shapes[0].bounds, [[-0.1, -0.2, 0], [0.1, 0.2, 0]])
    np.testing.assert_allclose(shapes[0].face_normals, [[0, 0, 1]] * 2)


def test_endless_planes_end():
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.5, 0, 0])
    model = spec.compile()
    assert web.shapes(model)[0].extents[0] == pytest.approx(10 * model.stat.extent)


def test_the_eye_is_that_of_mujocos_free_camera():
    spectator = Spectator((0.1, 0.2, 0.3), 0.7, 105.0, -35.0)
    model = TOY.scene().compile()
    camera = mujoco.MjvCamera()
    camera.lookat, camera.distance, camera.azimuth, camera.elevation = spectator
    scene = mujoco.MjvScene(model, maxgeom=10)
    everything = mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(model, mujoco.MjData(model), mujoco.MjvOption(), None, camera, everything, scene)
    both_eyes = [eye.pos for eye in scene.camera]
    np.testing.assert_allclose(web.eye(spectator), np.mean(both_eyes, axis=0), atol=1e-6)


def test_texts(session):
    session.choose("zero")
    assert "zero, episode 0" in web.status(session) and "not yet" in web.status(session)
    assert f"<td>{session.observation['goal'][0]:.3g}</td><td>m</td>" in plain(web.observation(session))
    while not session.over:
        session.step()
    assert "failure" in web.status(session) and f"{HORIZON * TOY.control_dt:.2f} s" in web.status(session)


def plain(table: str) -> str:
    return table.replace(' style="padding: 0 0.4em 0.2em 0"', "")


def test_pictures():
    assert "<img" not in web.pictures({})
    picture = Picture(depth=np.full((2, 2), 0.25), rgb=np.full((2, 2, 3), 0.5))
    assert web.pictures({"<wrist>": picture}).count("data:image/png;base64,") == 2
    assert "&lt;wrist&gt;" in web.pictures({"<wrist>": picture})


def test_plays_one_episode_after_another(session, server):
    page = web.Page(session, server)
    assert not session.over
    for _ in range(HORIZON):
        page.turn(now=0.0)
    assert session.ending == "success"
    page.turn(now=0.9)
    assert session.seed == 0
    page.turn(now=1.0)
    assert (session.seed, session.ending) == (1, "")


def test_shapes_are_those_of_the_episode(session, server):
    page = web.Page(session, server)
    for seed in (0, 1):
        session.reset(seed)
        page.turn(now=0.0)
        bead = server.scene.get_handle_by_name("/geom 1")
        scale = 10 / TOY.spectator.distance
        radius = session.model.geom_size[1, 0]
        np.testing.assert_allclose(np.ptp(bead.vertices, axis=0), 2 * scale * radius, rtol=1e-3)
        np.testing.assert_allclose(bead.position, scale * session.data.geom_xpos[1], rtol=1e-4)


def test_a_port_that_is_taken(session):
    with socket.create_server(("", 0)) as taken, pytest.raises(UserError, match=r"--port \d+: .* in use"):
        web.serve(session, taken.getsockname()[1])


def test_a_port_that_is_none(session):
    with pytest.raises(UserError, match="--port 70000"):
        web.serve(session, 70000)


def test_without_viser(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    monkeypatch.delitem(sys.modules, web.__name__)
    with pytest.raises(UserError, match="pip install"):
        importlib.import_module(web.__name__)


@pytest.fixture
def address():
    """Of a page that the command serves."""
    port = free_port()
    command = [sys.executable, "-m", "expertgen_jax", "view", "peg", "--web", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}) as run:
        line = run.stdout.readline()
        assert f"http://localhost:{port}" in line
        yield f"http://localhost:{port}"
        run.terminate()


@pytest.fixture
def browser_page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser.new_page(viewport={"width": 1280, "height": 800})
        browser.close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium")
def test_in_a_browser(address: str, browser_page: BrowserPage, tmp_path: Path) -> None:
    page = browser_page
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(address)
    page.get_by_text("Software WebGL").wait_for()

    def scene(name: str) -> np.ndarray: ...
