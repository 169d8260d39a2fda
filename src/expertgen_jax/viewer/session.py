"""An episode that a person watches: reset to a seed, a control step at a time, whoever acts."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.runs import recording
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.vision import appearance


class Picture(NamedTuple):
    """What a camera sees, on the host: `camera.Image` without the rest.

    Attributes:
      depth: `[size, size]` (m) along the optical axis; `camera.FAR` where nothing is.
      rgb: `[size, size, 3]` in [0, 1].
    """

    depth: np.ndarray
    rgb: np.ndarray


class Session:
    """One episode in progress, on the C engine. Not thread-safe.

    Attributes:
      env: the task.
      agents: that can be chosen, by name.
      choice: the name of the one that acts.
      seed: of the episode.
      world: as it is now; action: that led there, zeros at the start.
      model: the scene on the host, with the model fields of this episode.
      data: its state, that of `world`.
    """

    def __init__(self, env: Env, agents: Mapping[str, Agent], choice: str, seed: int = 0):
        self.env, self.agents = env, agents
        self.model = env.task.scene().compile()
        self.data = mujoco.MjData(self.model)
        self._entries = np.array(episode.entries(env))
        self._begin = jax.jit(rollout.start, static_argnames="policy")
        self._act = jax.jit(rollout.act)
        self._advance = jax.jit(lambda env, world, action: episode.advance(env, world, action[None])[0])
        self._see = jax.jit(appearance.see_plainly, static_argnames="size")
        self.seed = seed
        self.choose(choice)

    def choose(self, choice: str) -> None:
        """Another agent acts, in the same episode from its start; `KeyError` if there is no such agent."""
        self.choice, self._agent = choice, self.agents[choice]
        self.reset(self.seed)

    def reset(self, seed: int) -> None:
        """Starts the episode of a seed, the same for every agent: the one that `record` numbers so under key 0."""
        self.seed = seed
        number = jnp.asarray(np.array([seed]).astype(np.int32))  # wraps around above 2**31, as bits of the key do
        self._key = rollout.episode_keys(jax.random.key(0), number)[0]
        self.world, self._memory = self._begin(self.env, self._agent.policy, self._key)
        self._chunk: list[jax.Array] = []
        self.action = np.zeros(self.env.task.action_size, np.float32)
        for name, values in self.world.fields.items():
            getattr(self.model, name)[...] = values
        self._show()

    def step(self) -> None:
        """One control step; nothing where the episode is over."""
        if self.over:
            return
        if not self._chunk:
            self._memory, chunk = self._act(self._agent, self._memory, self.world, self._key)
            self._chunk = list(chunk)
        action = self._chunk.pop(0)
        self.world, self.action = self._advance(self.env, self.world, action), np.asarray(action)
        self._show()

    @property
    def over(self) -> bool:
        """The episode has ended."""
        return bool(episode.done(self.env, self.world))

    @property
    def ending(self) -> str:
        """How the episode ended: `success`, `failure` or `diverged`; "" while it goes on."""
        return recording.ending(self.world) if self.over else ""

    @property
    def succeeds(self) -> bool:
        """Strict success holds after the last control step."""
        return bool(self.world.held > 0)

    @property
    def observation(self) -> dict[str, np.ndarray]:
        """What a policy sees now, delays included: the parts by name, each `[n]`, past actions last."""
        obs = np.asarray(self.world.obs)
        return {name: obs[self._entries == name] for name in dict.fromkeys(self._entries.tolist())}

    def pictures(self, size: int) -> dict[str, Picture]:
        """What each of the task's cameras sees, `size` pixels wide and high, without visual randomisation."""
        names = self.env.task.cameras
        if not names:
            return {}
        image = jax.device_get(self._see(self.env, self.world, size=size))
        return {name: Picture(image.depth[i], image.rgb[i]) for i, name in enumerate(names)}

    def _show(self) -> None:
        """Brings the host's state up to date."""
        state = self.world.data
        self.data.time = state.time
        self.data.qpos[:], self.data.qvel[:] = state.qpos, state.qvel
        self.data.mocap_pos[:], self.data.mocap_quat[:] = state.mocap_pos, state.mocap_quat
        mujoco.mj_kinematics(self.model, self.data)
