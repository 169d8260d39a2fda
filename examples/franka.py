"""A Franka arm behind `expertgen deploy`, by the calls of pylibfranka, libfranka's package for Python.

    cd examples
    expertgen deploy ../runs/peg-0/export --robot franka:make

for a policy of an arm without a gripper (`--robot panda`, an insertion). It has not run on a real arm: the arm and the
cameras are those of `franka_stub`, which answers the same calls. For yours, take Robot and Torques from pylibfranka,
and write what has no call there: `look` for your cameras, `done` if somebody says so, `at_start`, an address in `make`.
What a policy reads comes from the positions and velocities of the joints, by the kinematics of the artefact's scene,
and from what the arm estimates of the torques that push it.
"""

import threading
import time
from pathlib import Path

import mujoco
import numpy as np
from franka_stub import Robot, Torques

HEARTBEAT = 0.1  # seconds without a target after which it holds its place
TORQUE_STEP = 0.9  # N m in a millisecond; the arm allows 1


class Franka:
    """`read`, `look`, `send` and `stop` at the policy's rate, and torques at 1 kHz on a thread of their own."""

    def __init__(self, card, robot):
        if card["joints"][:7] != [f"panda_joint{i}" for i in range(1, 8)] or len(card["actuators"]) != 13:
            raise ValueError("the policy is not of an arm without a gripper: steer with --robot panda")
        self.card, self.robot = card, robot
        self.model = mujoco.MjModel.from_xml_path(str(Path(card["folder"]) / "scene.xml"))
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT  # the real arm feels the real ones
        self.data, self.lock = mujoco.MjData(self.model), threading.Lock()
        self.torques = [self.model.sensor(name).adr[0] for name in card["joints"][:7]]
        self.moving, self.stopped, self.target, self.sent = False, "", np.zeros(13), 0.0
        self.thread, self.stops = threading.Thread(), 0

    def read(self):
        """Fields of MuJoCo's state; the first call of an episode may take as long as the arm's way to a start."""
        if not self.moving and not self.stopped:
            self.begin()
        with self.lock:
            shapes = self.card["state"]["shapes"]
            fields = {name: np.float32(getattr(self.data, name)) for name in self.card["state"]["read"]}
        told = {name: x.reshape(shapes[name]) for name, x in fields.items()}
        return {**told, "ctrl": np.float32(self.target), "stopped": self.stopped, "done": self.done()}

    def look(self):
        """What the cameras see."""
        return self.robot.pictures(self.card["inputs"]["pictures"])

    def send(self, target):
        """Where the impedance at the tool pulls it to, and torques for the posture; see the card's `actuators`."""
        with self.lock:
            self.target, self.sent = np.asarray(target, float), time.monotonic()

    def stop(self):
        """Holds its place, and gives up control."""
        with self.lock:
            self.moving, self.stops = False, self.stops + 1
        if self.thread.ident is not None:
            self.thread.join()

    def done(self):
        """The task is finished."""
        return self.robot.done()

    def at_start(self):
        """Returns when the arm stands at the start of the next episode: a person may have led it there."""
        self.robot.start()

    def begin(self):
        """The next episode, unless it is stopped before it begins."""
        stops = self.stops
        self.at_start()
        control = self.robot.start_torque_control()
        state, _ = control.readOnce()
        with self.lock:
            if stops != self.stops:
                return
            self.update(state)
            self.target = np.append(self.hand(), np.zeros(7))
            self.moving, self.sent = True, time.monotonic() + 1.0
            self.thread = threading.Thread(target=self.run, args=(control, np.zeros(7)), daemon=True)
            self.thread.start()

    def run(self, control, torques):
        """The loop at 1 kHz, whose pace `readOnce` sets."""
        coriolis = self.robot.load_model().coriolis
        try:
            while self.moving:
                state, _ = control.readOnce()
                with self.lock:
                    if time.monotonic() - self.sent > HEARTBEAT:
                        self.target, self.sent = np.append(self.hand(), np.zeros(7)), np.inf
                        self.stopped = f"no target for {1000 * HEARTBEAT:.0f} ms"
                    wanted = self.update(state) + coriolis(state)
                    torques = torques + np.clip(wanted - torques, -TORQUE_STEP, TORQUE_STEP)
                control.writeOnce(Torques(torques.tolist()))
        except Exception as error:  # of whatever kind: a reflex, a lost connection, a fault of this program
            self.stopped = str(error) or type(error).__name__
        finally:
            self.robot.stop()

    def update(self, state):
        """The scene as the joints stand, and the torques that its impedance gives there; libfranka adds gravity's."""
        self.data.qpos[:7], self.data.qvel[:7], self.data.ctrl[:] = state.q, state.dq, self.target
        mujoco.mj_forward(self.model, self.data)
        # What a policy feels: the torques that hold the arm against what pushes it, as the scene's sensors tell it.
        felt = self.model.dof_damping[:7] * self.data.qvel[:7] - state.tau_ext_hat_filtered
        self.data.sensordata[self.torques] = felt
        return self.data.qfrc_actuator[:7].copy()

    def hand(self):
        """Where the tool is, as the impedance is told it: position and rotation vector."""
        return self.data.actuator_length[:6].copy()


def make(card):
    """What `expertgen deploy --robot franka:make` calls."""
    return Franka(card, Robot(card["folder"]))
