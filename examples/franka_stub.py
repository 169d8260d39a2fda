"""A stand-in for pylibfranka and its arm: the same calls, answered by MuJoCo's C engine in time with the clock.

As the arm's own controller does, it gives up, with a RuntimeError, where a torque or its change exceeds what the arm
allows, where a joint comes too near to its end or turns too fast, or where no torque comes for 20 milliseconds.
"""

import copy
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import mujoco
import numpy as np
from deploy import load, pictures, state_of

ENDS = np.array([[-2.8973, 2.8973], [-1.7628, 1.7628], [-2.8973, 2.8973], [-3.0718, -0.0698], [-2.8973, 2.8973]])
ENDS = np.append(ENDS, [[-0.0175, 3.7525], [-2.8973, 2.8973]], axis=0)  # rad
FASTEST = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])  # rad/s
STRONGEST = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])  # N m
TORQUE_RATE = 1.0  # N m in a millisecond
PATIENCE = 20  # milliseconds without a torque


class Torques:
    def __init__(self, tau_J):
        self.tau_J = tau_J


class Robot:
    """pylibfranka's `Robot`; for an address it takes the folder of an exported policy, whose task it stands before."""

    def __init__(self, address):
        self.card, self.programs, self.model = load(Path(address))
        self.model.opt.timestep = 0.001
        self.data, self.seed, self.held, self.steps = mujoco.MjData(self.model), 0, 0, 0
        self.lock = threading.Lock()  # around what is changed while cameras look
        self.rng = np.random.default_rng(0)
        self.start()  # compiles
        self.judge()
        self.seed = 0

    def load_model(self):
        return Model(self)

    def start_torque_control(self):
        return Control(self)

    def stop(self):
        """Ends motion: what it holds, it goes on holding by itself."""
        self.data.qvel[:7] = self.data.qfrc_applied[:7] = 0.0

    # What stands for the world, and is no call of pylibfranka's.

    def start(self):
        """The start of the next episode."""
        self.seed += 1
        start = self.programs["reset"](np.uint32(self.seed))
        with self.lock:
            mujoco.mj_resetData(self.model, self.data)
            for name, values in start["fields"].items():
                getattr(self.model, name)[...] = values
            self.model.actuator_gainprm[:] = self.model.actuator_biasprm[:] = 0.0  # torques come from elsewhere
            for name in ("qpos", "mocap_pos", "mocap_quat"):
                if name in start:
                    getattr(self.data, name)[:] = start[name]
            mujoco.mj_forward(self.model, self.data)
        self.context, self.held, self.steps = start["context"], 0, 0

    def judge(self):
        """Counts for how many control steps the task has been done."""
        self.held = self.held + 1 if self.programs["success"](state_of(self.model, self.data), self.context) else 0

    def done(self):
        return self.held >= self.card["hold"]

    def pictures(self, wanted):
        with self.lock:
            now = copy.copy(self.data)
        return pictures(self.model, now, wanted, self.rng)


class Model:
    """pylibfranka's `Model`."""

    def __init__(self, robot):
        self.robot = robot

    def coriolis(self, state):
        return self.robot.data.qfrc_bias[:7] - self.robot.data.qfrc_gravcomp[:7]


class Control:
    """pylibfranka's `ActiveControlBase`: a millisecond from `readOnce` to `readOnce`."""

    def __init__(self, robot):
        self.robot, self.torques, self.silent = robot, np.zeros(7), 0
        self.began = time.monotonic()

    def readOnce(self):
        robot, model, data = self.robot, self.robot.model, self.robot.data
        while (behind := time.monotonic() - self.began) < 0.001:
            time.sleep(0.001 - behind)
        self.silent += 1
        if behind > PATIENCE / 1000 or self.silent > PATIENCE:
            raise RuntimeError("communication_constraints_violation")
        self.began += 0.001
        with robot.lock:
            mujoco.mj_step(model, data)
        robot.steps += 1
        if robot.steps % round(robot.card["control_dt"] / 0.001) == 0:
            robot.judge()
        if (np.abs(data.qvel[:7]) > FASTEST).any():
            raise RuntimeError("joint_velocity_violation")
        if ((data.qpos[:7] < ENDS[:, 0]) | (data.qpos[:7] > ENDS[:, 1])).any():
            raise RuntimeError("joint_position_limits_violation")
        told = {"q": data.qpos, "dq": data.qvel, "tau_ext_hat_filtered": data.qfrc_constraint}
        return SimpleNamespace(**{name: values[:7].tolist() for name, values in told.items()}), 0.001

    def writeOnce(self, torques):
        self.silent, told = 0, np.array(torques.tau_J)
        if (np.abs(told) > STRONGEST).any() or not np.isfinite(told).all():
            raise RuntimeError("tau_j_range_violation")
        if (np.abs(told - self.torques) > TORQUE_RATE + 1e-6).any():
            raise RuntimeError("controller_torque_discontinuity")
        self.torques = self.robot.data.qfrc_applied[:7] = told
