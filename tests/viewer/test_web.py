"""The page: what it is made of, and once in a browser."""

import dataclasses
import importlib
import os
import shutil
import socket
import subprocess
import sys
import time

import jax
import mujoco
import numpy as np
import pytest
import viser
from PIL import Image
from playwright.sync_api import sync_playwright
from toy import HORIZON, TOY

from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode, rollout
from expertgen_jax.task import Spectator
from expertgen_jax.viewer import web
from expertgen_jax.viewer.session import Picture, Session

CHROMIUM = shutil.which("chromium")
CHROMIUM_OPTIONS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WIDTH, HEIGHT = 1000, 600  # pixels
PATIENCE = 60  # seconds; without a GPU a browser draws few pictures in one


@pytest.fixture
def session():
    sizes = TOY.scene().compile().geom_size

    def reset(key):
        return TOY.reset(key)._replace(fields={"geom_size": sizes * jax.random.uniform(key, minval=0.5)})

    task = dataclasses.replace(TOY, reset=reset)
    return Session(episode.make_env(task, "native"), rollout.untrained_agents(task), "script")


@pytest.fixture
def server():
    server = viser.ViserServer(port=0, verbose=False)
    yield server
    server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


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
    assert all(f">{text}</td>" in web.observation(session) for text in ("goal", "0.2", "m"))
    while not session.over:
        session.step()
    assert "failure" in web.status(session) and f"{HORIZON * TOY.control_dt:.2f} s" in web.status(session)


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
    """Of the page of the peg, which the command serves."""
    port = free_port()
    command = [sys.executable, "-m", "expertgen_jax", "view", "peg", "--web", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"}) as run:
        assert f"http://localhost:{port}" in run.stdout.readline()
        yield f"http://localhost:{port}"
        run.terminate()


@pytest.fixture
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


class Visitor:
    """Somebody who looks at the page in a browser."""

    def __init__(self, browser, address, pictures):
        self.page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.goto(address)
        self.page.locator(".mantine-Notification-closeButton").click()  # it says that there is no GPU
        self._pictures = pictures

    def reads(self, row):
        """What stands in a row of the tables."""
        return self.page.get_by_role("cell", name=row, exact=True).locator("xpath=following-sibling::td").inner_text()

    def presses(self, button):
        self.page.get_by_role("button", name=button, exact=True).click()

    def sees(self, name):
        """The scene, `[height, width, 3]`, left of the panel; also written to a file."""
        path = self._pictures / f"{name}.png"
        self.page.screenshot(path=path)
        return np.asarray(Image.open(path).convert("RGB"), int)[:, : WIDTH - 330]


def wait_until(condition):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.2)


def share_of_orange(scene):
    red, green, blue = np.moveaxis(scene, -1, 0)
    return ((red > 130) & (red > 1.4 * green) & (green > 1.4 * blue)).mean()


def share_of_steel(scene):
    """Grey and a little blue, which the warm ground and the dark hand are not; the sky is bluer."""
    red, green, blue = np.moveaxis(scene, -1, 0)
    return ((red > 80) & (blue > red) & (blue < red + 25) & (blue >= green)).mean()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium")
def test_in_a_browser(address, browser, tmp_path):
    visitor = Visitor(browser, address, tmp_path)

    wait_until(lambda: share_of_orange(visitor.sees("playing")) > 0.005)
    scene = visitor.sees("playing")
    assert share_of_steel(scene) > 0.02
    assert scene.std(axis=(0, 1)).min() > 20
    assert visitor.reads("acting").startswith("script, episode ")
    assert visitor.page.locator("td img").count() == 2 * 3  # colour and depth of each camera

    visitor.presses("pause")
    visitor.page.get_by_role("button", name="play", exact=True).wait_for()
    time.sleep(1)
    clock, paused = visitor.reads("time"), visitor.sees("paused")
    time.sleep(1)
    assert visitor.reads("time") == clock
    assert np.abs(visitor.sees("still paused") - paused).max() <= 2

    visitor.page.get_by_label("seed").fill("7")
    wait_until(lambda: visitor.reads("acting") == "script, episode 7")
    wait_until(lambda: visitor.reads("time") == "0.00 s")
    start = visitor.sees("start of another episode")
    assert (np.abs(start - paused).max(axis=-1) > 20).mean() > 0.01

    visitor.presses("step")
    wait_until(lambda: visitor.reads("time") == "0.05 s")
    visitor.presses("reset")
    wait_until(lambda: visitor.reads("time") == "0.00 s")

    visitor.page.get_by_label("policy").click()
    visitor.page.get_by_role("option", name="zero").click()
    wait_until(lambda: visitor.reads("acting") == "zero, episode 7")

    visitor.presses("play")
    wait_until(lambda: visitor.reads("ending") == "failure")
