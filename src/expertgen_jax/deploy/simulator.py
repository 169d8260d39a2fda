"""A simulated robot: MuJoCo's C engine in a process of its own, at wall-clock rate, behind a socket.

    python -m expertgen_jax.deploy.simulator FOLDER

It prints the port on which it listens on this machine; `wire` describes what it understands. It stops by itself,
holding its place, when nobody has sent a target for `--heartbeat` seconds in the middle of an episode.
"""

import argparse
import contextlib
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.deploy import artefact, wire
from expertgen_jax.errors import UserError
from expertgen_jax.learning import student
from expertgen_jax.scenes import FINGER_JOINTS
from expertgen_jax.task import Box, View
from expertgen_jax.vision import camera


class Simulator:
    """The robot and its world, stepped by a thread in time with the clock."""

    def __init__(self, folder: Path, rate: int = 1000, heartbeat: float = 0.1):
        """A robot that waits for its first episode.

        Args:
          folder: an exported policy, with its scene.
          rate: of joint control, and of physics (Hz).
          heartbeat: seconds without a target after which it stops.
        """
        self.artefact = artefact.load(folder)
        self.model = mujoco.MjModel.from_xml_path(str(folder / "scene.xml"))
        self.model.opt.timestep = 1 / rate
        self.data = mujoco.MjData(self.model)
        self.heartbeat, self.lock = heartbeat, threading.RLock()
        self.pristine: dict[str, np.ndarray] = {}
        self.fields: dict[str, np.ndarray] = {}
        self.context: list[Any] = []
        self.seed = self.held = self.steps = 0
        self.running = self.done = False
        self.stopped = ""
        self.last_sent = 0.0
        # A servo holds where it is; fingers go on holding what they hold.
        names = [self.model.actuator(i).name for i in range(self.model.nu)]
        self.servos = self.model.actuator_biasprm[:, 1] != 0
        self.holding = np.array([name not in FINGER_JOINTS for name in names])
        self.see = jax.jit(self._see)
        self.start(0)  # compiles
        self.pictures()
        self.stop("")

    def start(self, seed: int) -> None:
        """Begins the episode of a seed; its first heartbeat is due ten times later than the others."""
        programs, model, data = self.artefact.programs, self.model, self.data
        begin = programs["reset"](np.uint32(seed))
        with self.lock:
            for name, values in self.pristine.items():
                getattr(model, name)[...] = values
            self.fields = {name: np.asarray(x) for name, x in begin["fields"].items()}
            self.pristine = {name: getattr(model, name).copy() for name in self.fields}
            for name, values in self.fields.items():
                getattr(model, name)[...] = values
            mujoco.mj_resetData(model, data)
            for name in ("qpos", "ctrl", "mocap_pos", "mocap_quat"):
                if name in begin:
                    getattr(data, name)[:] = begin[name]
            mujoco.mj_forward(model, data)
            self.seed, self.steps, self.held = seed, -1, 0
            self.context = [np.asarray(x) for x in begin["context"]]
            self._judge()
            self.running, self.done, self.stopped = True, False, ""
            self.last_sent = time.monotonic() + 9 * self.heartbeat

    def state(self) -> dict[str, np.ndarray]:
        """MuJoCo's fields, as float32."""
        shapes = self.artefact.card["state"]["shapes"]
        with self.lock:
            return {name: np.float32(getattr(self.data, name)).reshape(shape) for name, shape in shapes.items()}

    def reading(self) -> dict[str, np.ndarray]:
        """What the policy reads of it."""
        state = self.state()
        told = {name: state[name] for name in self.artefact.card["state"]["read"]}
        if self.artefact.card["inputs"]["pictures"]["kind"] == "state":  # as perception would report it
            told |= {f"context.{i}": np.asarray(x, np.float32) for i, x in enumerate(self.context)}
        return told

    def send(self, target: np.ndarray) -> None:
        """Commands the actuators.

        Raises:
          ValueError: it is no target, or the robot stands still.
        """
        if target.shape != (self.model.nu,) or not np.isfinite(target).all():
            raise ValueError(f"a target of shape {target.shape}, expected {(self.model.nu,)}, all finite")
        with self.lock:
            if self.done:
                return  # it was on its way when the task was finished
            if not self.running:
                raise ValueError(self.stopped or "no episode has begun")
            self.data.ctrl[:] = target
            self.last_sent = time.monotonic()

    def stop(self, why: str) -> None:
        """Holds its place."""
        with self.lock:
            if self.running:
                hold = np.where(self.servos, self.data.actuator_length, 0.0)
                self.data.ctrl[:] = np.where(self.holding, hold, self.data.ctrl)
                self.running, self.stopped = False, why

    def pictures(self) -> np.ndarray:
        """What its cameras see now."""
        state = self.state()
        return np.asarray(
            self.see({name: state[name] for name in ("xpos", "xmat")}, self.fields, np.uint32(self.steps))
        )

    def _see(self, state: Mapping[str, jax.Array], fields: Mapping[str, jax.Array], step: jax.Array) -> jax.Array:
        wanted, mj, data = self.artefact.card["inputs"]["pictures"], self.model, SimpleNamespace(**state)
        if wanted["kind"] not in ("depth", "rgb", "points"):
            return jnp.zeros(0)
        geoms, size = camera.visible(mj, data, fields), wanted["size"]
        cameras = [camera.of_view(mj, data, View(**view)) for view in wanted["cameras"].values()]
        images = [camera.render(geoms, view, size, size) for view in cameras]
        image = jax.tree.map(lambda *views: jnp.stack(views), *images)
        cloud = None
        if wanted["kind"] == "points":
            frame = camera.frame(mj, data, wanted["workspace"]["body"])
            cloud = student.Cloud(Box(**wanted["workspace"]), *frame, wanted["points"], jax.random.key(step))
        return student.pictured(wanted["kind"], image, cloud)

    def _judge(self) -> None:
        """What a task does at a control step: sensors report, success is judged."""
        programs, state = self.artefact.programs, self.state()
        if "update" in programs:
            key = np.array([self.seed, 1000 + self.steps], np.uint32)
            self.context = [np.asarray(x) for x in programs["update"](state, self.context, key)]
        self.held = self.held + 1 if programs["success"](state, self.context) else 0
        self.steps += 1

    def run(self) -> None:
        """Lets time pass, for ever."""
        card, simulated = self.artefact.card, time.monotonic()
        every = round(card["control_dt"] / self.model.opt.timestep)
        count = 0
        while True:
            if (behind := time.monotonic() - simulated) < self.model.opt.timestep:
                time.sleep(self.model.opt.timestep - behind)
            with self.lock:
                mujoco.mj_step(self.model, self.data)
                simulated += self.model.opt.timestep
                count += 1
                if self.running and time.monotonic() - self.last_sent > self.heartbeat:
                    self.stop(f"nothing was sent for {1000 * self.heartbeat:.0f} ms")
                judged = self.running and count % every == 0
            if judged:
                self._judge()
                with self.lock:
                    if self.held >= card["hold"] and self.running:
                        self.done = True
                        self.stop("")
            if behind > 1.0:  # the machine was busy: time lost is not made up for
                simulated = time.monotonic()


class _Server(socketserver.ThreadingTCPServer):
    """Lets anybody on this machine talk to a simulator, each connection on a thread of its own."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, simulator: Simulator):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.simulator = simulator


class _Handler(socketserver.StreamRequestHandler):
    """A connection."""

    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        while True:
            try:
                self.answer(self.server.simulator, *wire.receive(self.rfile))
            except (EOFError, OSError):
                return
            except (ValueError, TypeError, KeyError) as error:
                with contextlib.suppress(OSError):  # they hung up: the next request says so
                    wire.send(self.wfile, "error", message=str(error))

    def answer(self, simulator: Simulator, op: str, values: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Does what a request asks for, and answers it."""
        if op == "read":
            wire.send(self.wfile, "state", simulator.reading(), done=simulator.done, stopped=simulator.stopped)
        elif op == "look":
            wire.send(self.wfile, "pictures", {"pictures": simulator.pictures()})
        elif op in ("start", "send", "stop"):
            if op == "start":
                simulator.start(int(values["seed"]))
            elif op == "send":
                simulator.send(arrays["target"])
            else:
                simulator.stop("it was told to stop")
            wire.send(self.wfile, "ok")
        else:
            raise ValueError(f"no such request: {op}")


def main(argv: list[str] | None = None) -> None:
    """Serves until it is killed, or until whoever started it is gone."""
    parser = argparse.ArgumentParser(description="A simulated robot behind a socket on this machine.")
    parser.add_argument("folder", type=Path, help="what `expertgen export` wrote")
    parser.add_argument("--heartbeat", type=float, default=0.1, help="seconds without a target after which it stops")
    args = parser.parse_args(argv)
    try:
        simulator = Simulator(args.folder, heartbeat=args.heartbeat)
    except UserError as error:
        sys.exit(f"error: {error}")
    with _Server(simulator) as server:
        print(server.server_address[1], flush=True)
        for task in (simulator.run, server.serve_forever):
            threading.Thread(target=task, daemon=True).start()
        sys.stdin.read()  # until whoever started it hangs up


def spawn(folder: Path, heartbeat: float = 0.1) -> tuple["subprocess.Popen[str]", int]:
    """Starts a simulated robot; returns its process and port. It ends when its standard input is closed.

    Raises:
      UserError: it does not start.
    """
    command = [sys.executable, "-m", "expertgen_jax.deploy.simulator", str(folder), "--heartbeat", str(heartbeat)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.strip().isdigit():
        raise UserError(f"the simulated robot of {folder} does not start")
    return process, int(line)


if __name__ == "__main__":
    main()
