"""A session on a web page: the scene in 3D, buttons, and what is observed; by the library viser."""

import base64
import contextlib
import html
import io
import queue
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn

import mujoco
import numpy as np
from PIL import Image

from expertgen_jax.errors import UserError
from expertgen_jax.task import Spectator
from expertgen_jax.viewer.session import Picture, Session
from expertgen_jax.vision.camera import geom_rgba
from expertgen_jax.vision.video import FIELD_OF_VIEW

try:
    import viser

    from expertgen_jax.viewer.shapes import shapes
except ImportError as error:
    raise UserError("--web needs: pip install 'expertgen-jax[viewer]'") from error

_PAUSE_AT_END = 1.0  # seconds before the next episode
_PANEL_PERIOD = 0.2  # seconds from one update of the panel to the next; they cost a browser most
_DISTANCE = 10.0  # from the camera; scenes are enlarged for viser, whose shadows are made for metres
_ZENITH, _HORIZON = (160, 182, 208), (236, 240, 245)
_PICTURE = 64  # pixels
_COLOURS = {"success": "#2b8a3e", "failure": "#c92a2a", "diverged": "#c92a2a"}


def serve(session: Session, port: int) -> None:
    """Serves the page, one episode after another, until the process is interrupted; prints the page's address.

    Raises:
      UserError: the port is taken, or there is no such port.
    """
    try:  # viser would take the next port
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    except (OSError, OverflowError) as error:
        problem = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise UserError(f"--port {port}: {problem}; choose another port") from error
    with contextlib.redirect_stdout(io.StringIO()):  # viser's greeting has many lines
        server = viser.ViserServer(port=port, label=session.env.task.name, verbose=False)
    print(f"serving http://localhost:{port} until interrupted (ctrl-c)", flush=True)
    Page(session, server).run()


class Page:
    """The page of a session. Whoever has it open sees the same, and may ask for things.

    All that concerns the session happens in `turn`; viser's threads only queue requests for it.
    """

    def __init__(self, session: Session, server: viser.ViserServer):
        self._session, self._server = session, server
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._playing = True
        self._last_step = self._last_panel = -np.inf
        self._looks: tuple[bytes, ...] = ()
        self._nodes: dict[int, viser.MeshHandle] = {}
        self._scale = _DISTANCE / session.env.task.spectator.distance
        self._set_stage()
        self._add_panel()

    def run(self) -> NoReturn:
        """Turns at the control rate, for ever."""
        while True:
            began = time.monotonic()
            self.turn(began)
            time.sleep(max(0.0, self._session.env.task.control_dt - (time.monotonic() - began)))

    def turn(self, now: float) -> None:
        """Does what was asked for and, unless paused, a control step; shows the outcome. `now` is a time (s)."""
        session = self._session
        while not self._requests.empty():
            self._requests.get()()
        if self._playing and not session.over:
            session.step()
            self._last_step = now
        elif self._playing and now >= self._last_step + _PAUSE_AT_END:
            session.reset(session.seed + 1)
            self._seed.value = session.seed
        self._show_scene()
        if now >= self._last_panel + _PANEL_PERIOD:
            self._show_panel()
            self._last_panel = now

    def _set_stage(self) -> None:
        """Camera, light and sky; the light comes from above the camera's left shoulder."""
        spectator, scene, camera = self._session.env.task.spectator, self._server.scene, self._server.initial_camera
        stand, target = eye(spectator), np.array(spectator.lookat)
        camera.position, camera.look_at = self._scale * stand, self._scale * target
        camera.fov, camera.near, camera.far = np.deg2rad(FIELD_OF_VIEW), _DISTANCE / 10, _DISTANCE * 10
        x, y, _ = (stand - target) / spectator.distance
        scene.configure_default_lights(False)
        scene.configure_environment_map(environment_intensity=0.45)
        above = (0.5 * x + 0.6 * y, 0.5 * y - 0.6 * x, 1.3)
        scene.add_light_directional("light", intensity=2.0, cast_shadow=True, position=above)
        scene.set_background_image(np.linspace(_ZENITH, _HORIZON, 256).astype(np.uint8)[:, None].repeat(4, axis=1))

    def _add_panel(self) -> None:
        session, gui, ask = self._session, self._server.gui, self._requests.put
        gui.configure_theme(show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        policy = gui.add_dropdown("policy", tuple(session.agents), initial_value=session.choice)
        policy.on_update(lambda event: ask(partial(session.choose, event.target.value)))
        self._seed: Any = gui.add_number("seed", session.seed, min=0, max=2**32 - 1, step=1)
        self._seed.on_update(lambda event: ask(partial(self._seek, event.target.value)))
        self._buttons = gui.add_button_group("episode", ("pause", "step", "reset"))
        self._buttons.on_click(lambda event: ask(partial(self._press, event.target.value)))
        self._texts = [gui.add_html("") for _ in range(3)]

    def _seek(self, seed: int) -> None:
        if seed != self._session.seed:  # else it was the page that moved on to the next episode
            self._session.reset(seed)

    def _press(self, button: str) -> None:
        if button == "step":
            self._session.step()
        elif button == "reset":
            self._session.reset(self._session.seed)
        else:
            self._playing = button == "play"
            self._buttons.options = ("pause" if self._playing else "play", "step", "reset")

    def _show_scene(self) -> None:
        """Shapes where they are now; new ones where this episode's differ from the last one's."""
        model, data = self._session.model, self._session.data
        looks = model.geom_size.tobytes(), geom_rgba(model).tobytes()
        with self._server.atomic():
            if looks != self._looks:
                self._looks = looks
                self._add_shapes(model)
            for geom, node in self._nodes.items():
                node.position, node.wxyz = self._scale * data.geom_xpos[geom], quaternion(data.geom_xmat[geom])

    def _add_shapes(self, model: mujoco.MjModel) -> None:
        scene, scale = self._server.scene, self._scale
        while self._nodes:
            self._nodes.popitem()[1].remove()
        for geom, mesh in shapes(model).items():
            name = model.geom(geom).name.replace("/", " ") or f"geom {geom}"
            vertices, colour = scale * mesh.vertices, geom_rgba(model)[geom, :3]
            self._nodes[geom] = scene.add_mesh_simple(name, vertices, mesh.faces, color=colour)
            if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE.value:
                width, height, _ = np.ptp(vertices, axis=0)
                cell = float(scale * 10 ** np.round(np.log10(1 / scale)))  # 1 cm, 10 cm, ...
                cells: dict[str, Any] = dict(cell_size=cell, cell_color=0.93 * colour, position=(0, 0, _DISTANCE / 1e3))
                sections: dict[str, Any] = dict(section_size=10 * cell, section_color=0.8 * colour)
                scene.add_grid(f"{name}/grid", width, height, shadow_opacity=0.0, **cells, **sections)

    def _show_panel(self) -> None:
        session = self._session
        contents = status(session), observation(session), pictures(session.pictures(_PICTURE))
        for text, content in zip(self._texts, contents, strict=True):
            text.content = content


def eye(spectator: Spectator) -> np.ndarray:
    """Where a free camera of MuJoCo stands, `[3]` (m)."""
    azimuth, elevation = np.deg2rad([spectator.azimuth, spectator.elevation])
    flat = np.cos(elevation)
    forward = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    return np.array(spectator.lookat) - spectator.distance * forward


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """The rotation of a matrix `[9]` as a quaternion `[4]`, w-x-y-z."""
    result = np.empty(4)
    mujoco.mju_mat2Quat(result, matrix)
    return result


def status(session: Session) -> str:
    """HTML: which episode, for how long, how it goes and how it ended."""
    ending = session.ending
    return _table(
        [
            ("acting", html.escape(f"{session.choice}, episode {session.seed}")),
            ("time", f"{session.data.time:.2f} s"),
            ("strict success", "holds" if session.succeeds else "does not hold"),
            ("ending", f'<b style="color: {_COLOURS[ending]}">{ending}</b>' if ending else "not yet"),
        ]
    )


def observation(session: Session) -> str:
    """HTML: name, numbers to three digits, and unit of each part of the observation."""
    units = session.env.task.observation
    return _table(
        (html.escape(name), " ".join(f"{x:.3g}" for x in values.round(6) + 0), html.escape(units.get(name, "1")))
        for name, values in session.observation.items()
    )


def pictures(seen: Mapping[str, Picture]) -> str:
    """HTML: the name of each camera, its colours, and its depth as grey that is black from 1 m on."""
    return _table(
        (html.escape(name), _image(rgb), _image(1 - np.minimum(depth, 1))) for name, (depth, rgb) in seen.items()
    )


def _table(rows: Iterable[Iterable[str]]) -> str:
    cells = ("".join(f'<td style="padding: 0 0.4em 0.2em 0">{cell}</td>' for cell in row) for row in rows)
    style = "width: 100%; padding: 0.3em 0.6em; font-size: 0.8em; line-height: 1.3; font-variant-numeric: tabular-nums"
    return f'<table style="{style}">{"".join(f"<tr>{row}</tr>" for row in cells)}</table>'


def _image(pixels: np.ndarray) -> str:
    """A picture `[height, width]` or `[height, width, 3]` in [0, 1]."""
    file = io.BytesIO()
    Image.fromarray((255 * pixels).astype(np.uint8)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img style="width: 100%; image-rendering: pixelated" src="data:image/png;base64,{data}">'
