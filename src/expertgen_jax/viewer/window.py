"""A session in MuJoCo's own window: space pauses, backspace starts anew, the right arrow steps."""

import time

import mujoco.viewer

from expertgen_jax.viewer.session import Session

_SPACE, _BACKSPACE, _RIGHT = 32, 259, 262  # GLFW's key codes
_PAUSE_AT_END = 1.0  # seconds before the next episode


def show(session: Session) -> None:
    """Plays one episode after another until the window is closed; each end is printed."""
    keys: list[int] = []
    paused = False
    dt = session.env.task.control_dt
    with mujoco.viewer.launch_passive(
        session.model, session.data, key_callback=keys.append, show_left_ui=False, show_right_ui=False
    ) as window:
        spectator = session.env.task.spectator
        window.cam.lookat[:], window.cam.distance = spectator.lookat, spectator.distance
        window.cam.azimuth, window.cam.elevation = spectator.azimuth, spectator.elevation
        while window.is_running():
            began = time.monotonic()
            pressed = [keys.pop(0) for _ in range(len(keys))]
            paused ^= pressed.count(_SPACE) % 2 == 1
            if _BACKSPACE in pressed:
                session.reset(session.seed)
            if session.over:
                print(f"episode {session.seed}: {session.ending}")
                time.sleep(_PAUSE_AT_END)
                session.reset(session.seed + 1)
            elif not paused or _RIGHT in pressed:
                session.step()
            window.sync()
            time.sleep(max(0.0, dt - (time.monotonic() - began)))
