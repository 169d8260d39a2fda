"""Tasks as environments of Gymnasium, one world or many at once.

`import expertgen_jax.envs.gymnasium` registers `expertgen/TASK` for each task of the package:
`gymnasium.make("expertgen/peg", randomization="default")`, or `gymnasium.make_vec("expertgen/peg", num_envs=256)`,
which steps all worlds in one compiled program. `make` and `make_vec` here do the same for a task of your own, by path.

A step is a control step; the reward is 1 where strict success ends the episode, else 0. An episode is truncated at the
task's horizon, and terminated where it succeeds or physics diverges. `info["is_success"]` tells which.
"""

import operator
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.tasks.registry import TASKS, load_task
from expertgen_jax.vision import video

RENDERED = "rgb_array"


class TaskVectorEnv(VectorEnv):
    """Many worlds of a task; where an episode is over, the next step begins another one, whatever the action.

    Attributes:
      env: the task on a back end.
    """

    def __init__(self, env: Env, num_envs: int, render_mode: str | None = None):
        """Before the first `reset`.

        Args:
          env: the task on a back end.
          num_envs: number of worlds.
          render_mode: None or `rgb_array`, one picture a world from the task's spectator.

        Raises:
          UserError: another render mode.
        """
        if render_mode not in (None, RENDERED):
            raise UserError(f"render_mode {render_mode!r}: {RENDERED!r} or None")
        self.env, self.num_envs, self.render_mode = env, num_envs, render_mode
        self.metadata = _metadata(env) | {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = _spaces(env)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._worlds: World | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode in each world: observations `[num_envs, n]` and no infos."""
        super().reset(seed=seed)
        self._worlds = _begin(self.env, jax.random.split(_key(self.np_random), self.num_envs))
        return np.array(self._worlds.obs), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One control step of each world, under `actions: [num_envs, m]`, clipped to [-1, 1]."""
        before = self._worlds
        if before is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        over = np.asarray(episode.done(self.env, before))
        after = _advance(self.env, before, np.clip(actions, -1, 1).astype(np.float32))
        if over.any():
            after = _renew(self.env, over, after, _key(self.np_random))
        self._worlds = after
        success = np.array(after.success)  # arrays of one's own, which a wrapper may change
        ended = success | np.asarray(after.diverged)
        truncated = np.asarray(episode.done(self.env, after)) & ~ended
        told = {"is_success": success, "_is_success": np.ones_like(success)}
        return np.array(after.obs), success.astype(np.float64), ended, truncated, told

    def render(self) -> tuple[np.ndarray, ...] | None:
        """What the spectator sees of each world, `[480, 640, 3] uint8`."""
        if self.render_mode is None or self._worlds is None:
            return None
        worlds = jax.device_get(self._worlds)
        return tuple(_picture(self.env, jax.tree.map(operator.itemgetter(i), worlds)) for i in range(self.num_envs))


class TaskEnv(gymnasium.Env):
    """One world of a task.

    Attributes:
      worlds: it, as a vector of one.
    """

    def __init__(self, env: Env, render_mode: str | None = None):
        """Before the first `reset`; see `TaskVectorEnv`."""
        self.worlds, self.render_mode = TaskVectorEnv(env, 1, render_mode), render_mode
        self.metadata = _metadata(env)
        self.observation_space, self.action_space = _spaces(env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode: its observation `[n]` and no info."""
        super().reset(seed=seed)
        if seed is not None:
            self.worlds.np_random = self.np_random
        obs, _ = self.worlds.reset()
        return obs[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step under `action: [m]`, clipped to [-1, 1]."""
        obs, reward, ended, truncated, told = self.worlds.step(np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(ended[0]), bool(truncated[0]), {"is_success": bool(told["is_success"][0])}

    def render(self) -> Any:
        """What the spectator sees, `[480, 640, 3] uint8`; None without a render mode."""
        pictures = self.worlds.render()
        return None if pictures is None else pictures[0]


def make(task: str, *, physics: str = "auto", render_mode: str | None = None, **options: Any) -> TaskEnv:
    """One world of a task.

    Args:
      task: its name, or the path of a task file.
      physics: back end, see `physics.resolve`.
      render_mode: see `TaskVectorEnv`.
      options: `randomization`, `robot`, `starts`, `grasp`, as of `load_task`, with its errors.
    """
    return TaskEnv(episode.make_env(load_task(task, **options), physics, max_worlds=1), render_mode)


def make_vec(
    task: str, num_envs: int = 1, *, physics: str = "auto", render_mode: str | None = None, **options: Any
) -> TaskVectorEnv:
    """So many worlds of a task; see `make`."""
    return TaskVectorEnv(episode.make_env(load_task(task, **options), physics, num_envs), num_envs, render_mode)


def register() -> None:
    """Registers `expertgen/TASK` for each task of the package."""
    for name in TASKS:
        gymnasium.register(
            f"expertgen/{name}", f"{__name__}:make", vector_entry_point=f"{__name__}:make_vec", kwargs={"task": name}
        )


def _spaces(env: Env) -> tuple[Box, Box]:
    """Of observations and actions."""
    (n, _), m = episode.sizes(env), env.task.action_size
    return Box(-np.inf, np.inf, (n,), np.float32), Box(-1.0, 1.0, (m,), np.float32)


def _metadata(env: Env) -> dict[str, Any]:
    return {"render_modes": [RENDERED], "render_fps": round(1 / env.task.control_dt), "version": env.task.version}


def _key(generator: np.random.Generator) -> jax.Array:
    return jax.random.key(generator.integers(2**32, dtype=np.uint32))


def _picture(env: Env, world: World) -> np.ndarray:
    qpos, *mocap = (np.asarray(x)[None] for x in (world.data.qpos, world.data.mocap_pos, world.data.mocap_quat))
    return video.render(env.model.mj, qpos, mocap[0], mocap[1], env.task.spectator, fields=world.fields)[0]


_begin: Callable[..., World] = episode.jit(lambda env, keys: jax.vmap(lambda key: episode.reset(env, key))(keys))
_advance: Callable[..., World] = episode.jit(
    lambda env, worlds, actions: jax.vmap(lambda w, a: episode.advance(env, w, a[None])[0])(worlds, actions)
)
_renew: Callable[..., World] = episode.jit(episode.renewed)

register()
