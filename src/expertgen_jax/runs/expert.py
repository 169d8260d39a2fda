"""A run: demonstrations, prior, expert, evaluation, recording; each phase is done once.

A phase that finds its result in the run directory returns it; steering goes on from its last checkpoint. All
randomness comes from the run's seed, so that an interrupted run ends with the figures of an undisturbed one.
"""

import sys
import time

import jax
import numpy as np

from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos, diffusion, steering
from expertgen_jax.learning.demos import DemoSet
from expertgen_jax.learning.diffusion import Prior
from expertgen_jax.learning.steering import Expert, Steering
from expertgen_jax.runs import checkpoint, figures, loops, recording
from expertgen_jax.runs.diagnosis import advice, scarce
from expertgen_jax.runs.directory import AFRESH, Figures, RunDirectory
from expertgen_jax.runs.progress import Progress
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.runs.settings import RunSettings, load_task
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env
from expertgen_jax.sim.evaluation import SELECTION_SEED, evaluate, lasting, predicted
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import Level

LASTING_EPISODES = 256
"""Episodes, at most, on which it is found out whether success lasts."""


class ExpertRun:
    """A run on its environment.

    Attributes:
      directory: where it is kept.
      settings: that made it.
      env: its task on a back end.
      ancestor: the run that it goes on from, see `RunSettings.init_from`.
    """

    def __init__(self, directory: RunDirectory, settings: RunSettings, env: Env, ancestor: "ExpertRun | None" = None):
        self.directory, self.settings, self.env, self.ancestor = directory, settings, env, ancestor
        self.progress = Progress()

    def demonstrations(self) -> DemoSet:
        """The demonstrations: the user's, those in the run directory, or new ones."""
        settings, env, path = self.settings, self.env, self.directory.path / "demos.npz"
        sizes = episode.sizes(env)[0], env.task.action_size
        if path.exists():
            return demos.load(path, *sizes)
        if self.ancestor is not None:
            demo_set, rows = self.ancestor.demonstrations(), self.ancestor.directory.rows()
            self.directory.log(next(row for row in rows if row["phase"] == "demos") | {"wall_s": 0.0}, step=0)
            demos.save(path, demo_set)
            return demo_set
        start = time.monotonic()

        def report(asked: demos.Asked) -> None:
            share = min(
                1.0, max(asked.succeeded / settings.demo.successes, asked.episodes / settings.demo.max_episodes)
            )
            self.progress("demos", share, f"{asked.succeeded} of {asked.episodes} episodes succeeded")

        if settings.demos is not None:
            demo_set = demos.load(settings.demos, *sizes)
            starts = jax.jit(jax.vmap(episode.reset, (None, 0)))(env, jax.random.split(self._key("demos"), 256)).obs
            for finding in demos.strange(demo_set, np.asarray(starts), episode.entries(env)):
                print(f"warning: --demos {settings.demos}: {finding}", file=sys.stderr)
            asked = demos.Asked(len(demo_set.lengths), int(demo_set.success.sum()), 0)
            report(asked)
        else:
            self.progress("demos", 0.0, f"{settings.demo.episodes} episodes at a time")
            demo_set, asked = demos.demonstrate(env, self._key("demos"), settings.demo, report)
        if warning := scarce(asked, settings.demo):
            print(f"warning: {warning}", file=sys.stderr)
        self.directory.keep_rows(lambda row: row["phase"] != "demos")
        row = {"phase": "demos", **asked._asdict(), "success": asked.succeeded / asked.episodes}
        self.directory.log(row | {"wall_s": time.monotonic() - start}, step=0)
        demos.save(path, demo_set)  # last: with the file, the phase is done
        return demo_set

    def prior(self) -> Prior:
        """The diffusion prior: the one in the run directory, or a new one from the demonstrations."""
        config = self.settings.prior
        try:
            return self.finished_prior()
        except checkpoint.DamagedError as error:
            print(f"warning: {error}; training the prior anew", file=sys.stderr)
        except FileNotFoundError:
            pass
        demo_set = self.demonstrations()
        self.directory.keep_rows(lambda row: row["phase"] != "pretrain")
        start = time.monotonic()

        def log(step: int, steps: int, loss: float) -> None:
            row = {"phase": "pretrain", "step": step, "loss": loss, "wall_s": time.monotonic() - start}
            self.directory.log(row, step)
            self.progress("prior", step / steps, f"step {step}, loss {loss:.4f}")

        if self.ancestor is None:
            prior = loops.pretrain(self._key("prior"), demo_set, config, log)
        else:
            prior = self.ancestor.finished_prior()
        checkpoint.save(self.directory.checkpoints / "prior", prior)
        return prior

    def expert(self) -> Expert:
        """The steered expert: the one in the run directory, or the end of a steering that goes on where it stopped."""
        prior = self.prior()
        try:
            return self.finished_expert(prior)
        except checkpoint.DamagedError as error:
            print(f"warning: {error}; steering goes on from its last checkpoint", file=sys.stderr)
        except FileNotFoundError:
            pass
        keys = jax.random.split(self._key("steer"), self.settings.num_seeds)
        mdp, inherited = Steering(self.env, prior, self.settings.steer), None
        if (other := self.ancestor) is not None:
            other_mdp = Steering(other.env, prior, other.settings.steer)
            inherited = loops.learnt(other.directory, other_mdp, other.settings.num_seeds)
        expert = loops.steer(self.directory, mdp, keys, self.progress, inherited)
        checkpoint.save(self.directory.checkpoints / "expert", expert)
        if told := advice(self.directory.rows(), self.settings.steer.target):
            print(f"warning: {told}", file=sys.stderr)
        return expert

    def finished_prior(self) -> Prior:
        """The prior in the run directory.

        Raises:
          FileNotFoundError: there is none yet.
          DamagedError: its checkpoint cannot be read.
        """
        config, action_size = self.settings.prior, self.env.task.action_size
        like = jax.eval_shape(lambda: diffusion.untrained(config, episode.sizes(self.env)[0], action_size))
        return checkpoint.restore(self.directory.checkpoints / "prior", like)

    def finished_expert(self, prior: Prior) -> Expert:
        """The expert in the run directory; raises like `finished_prior`."""
        mdp = Steering(self.env, prior, self.settings.steer)
        like = jax.eval_shape(lambda k: mdp.expert(mdp.init(k)), self._key("steer"))
        return checkpoint.restore(self.directory.checkpoints / "expert", like)

    def agent(self, name: str) -> Agent:
        """One of the run's agents by name: `prior`, `expert`, or one of `rollout.untrained_agents`.

        Raises:
          UserError: there is none of that name, the task has none, or the run has not come that far.
        """
        task = self.env.task
        untrained = rollout.untrained_agents(task)
        if name in untrained:
            return untrained[name]
        if name not in ("prior", "expert"):
            raise UserError(
                f"--policy {name}: task '{task.name}' has none; choose {', '.join(untrained)}, prior or expert"
            )
        try:
            prior = self.finished_prior()
            if name == "prior":
                return Agent(name, steering.prior_policy(prior.config.chunk), prior)
            policy = steering.expert_policy(prior.config.chunk, episode.sizes(self.env)[0], self.settings.steer)
            return Agent(name, policy, (prior, self.finished_expert(prior)))
        except FileNotFoundError as error:
            raise UserError(
                f"--run-dir {self.directory.path} holds no {name} yet: finish steer with the same directory first"
            ) from error

    def evaluation(
        self,
        agent: Agent,
        backend: str | None = None,
        episodes: int | None = None,
        randomization: Level | None = None,
    ) -> Figures:
        """Figures of an agent on the evaluation episodes, made once; by default on the run's back end, under its
        randomisation."""
        episodes, own = episodes or self.settings.eval_episodes, self.settings.randomization
        elsewhere = "" if randomization in (None, own) else f", randomization {randomization}"
        env = self.on(backend, randomization)
        return evaluated_once(self.directory, self.progress, env, agent, episodes, elsewhere)

    def evaluations(self) -> list[Figures]:
        """Of the prior, of the expert, and, where the settings ask for it, of the expert on the other back end."""
        prior, expert = self.agent("prior"), self.agent("expert")
        made = [self.evaluation(prior), self.evaluation(expert)]
        if episodes := self.settings.transfer_episodes:
            made.append(self.evaluation(expert, self.other_backend(), episodes))
        return made

    def lasting(self) -> Figures:
        """What of the expert's success still holds two seconds later, see `evaluation.lasting`; found out once."""

        def play() -> Figures:
            episodes = min(self.settings.eval_episodes, LASTING_EPISODES)
            return {"policy": "expert", **lasting(self.env, self.agent("expert"), episodes)}

        return self.directory.figures_once("expert, two seconds later", play)

    def on(self, backend: str | None, randomization: Level | None = None) -> Env:
        """The environment on a back end, under a randomisation; by default the run's."""
        same_task = randomization in (None, self.settings.randomization)
        if same_task and backend in (None, self.env.model.backend):
            return self.env
        task = self.env.task if same_task else load_task(self.settings, randomization)
        return episode.make_env(task, backend or self.env.model.backend, actions_seen=self.env.actions_seen)

    def other_backend(self) -> str:
        """The back end on which an expert of this run shows that it learnt the task and not the engine."""
        return "mjx" if self.env.model.backend == "native" else "native"

    def record(self, episodes: int = 2) -> None:
        """`expert.mp4`: prior and expert side by side from the same starts, on the C engine."""
        path = self.directory.path / "expert.mp4"
        if path.exists():
            return
        self.progress("video", 0.0, f"{episodes} episodes of prior and expert")
        env, key = self.on("native"), jax.random.key(SELECTION_SEED)
        agents = self.agent("prior"), self.agent("expert")
        panels = [recording.clips(env, agent, key, episodes) for agent in agents]
        recording.try_to_write(path, panels, env.task)
        self.directory.log_video(path)
        self.progress("video", 1.0, f"{episodes} episodes of prior and expert")

    def finish(self) -> Figures:
        """Draws `curves.png`, writes `summary.json` and returns it.

        `wall_s` holds the phases' own times; start-up, the video and what a kill undid are not in it.
        """
        evaluations = self.evaluations()
        prior, expert, *elsewhere = evaluations
        rows = self.directory.rows()
        try:
            demo_row = next(row for row in rows if row["phase"] == "demos")
            last = [row for row in rows if row["phase"] == "steer"][-1]
            steered = next(row for row in rows if row["phase"] == "steered")
        except (StopIteration, IndexError) as error:
            raise UserError(f"--run-dir {self.directory.path}: metrics.jsonl has lost rows; {AFRESH}") from error
        wall = {
            "demos": demo_row["wall_s"],
            "prior": max((row["wall_s"] for row in rows if row["phase"] == "pretrain"), default=0.0),
            "compile": last["compile_s"],
            "steer": last["wall_s"],
            "eval": sum(made["wall_s"] for made in evaluations),
        }
        summary = {
            "task": self.env.task.name,
            "task_version": self.env.task.version,
            "seed": self.settings.seed,
            "physics": self.env.model.backend,
            **provenance(),
            "demo_success": demo_row["success"],
            "prior_success": prior["success"],
            "expert_success": expert["success"],
            "expert_success_lenient": expert["success_lenient"],
            "ci95": expert["ci95"],
            "eval_episodes": expert["episodes"],
            "transfer": {key: elsewhere[0][key] for key in ("physics", "success", "ci95")} if elsewhere else None,
            "final_pose": expert["final_pose"],
            "lasting": {name: self.lasting()[name] for name in ("acting", "still")},
            "steering": {name: steered[name] for name in ("ended", "success", "eval_episodes")}
            | {
                "predicted": predicted(
                    round(steered["success"] * steered["eval_episodes"]), steered["eval_episodes"], expert["episodes"]
                )
            },
            "num_seeds": self.settings.num_seeds,
            "train_episodes": last["train_episodes"],
            "env_steps": last["env_steps"],
            "diverged": last["diverged"],
            "wall_s": wall | {"total": sum(wall.values())},
        }
        references = {"demo_success": demo_row["success"], "prior_success": prior["success"]}
        figures.curves(rows, self.directory.path / "curves.png", references=references)
        self.directory.write_json("summary.json", summary)
        return summary

    def _key(self, phase: str) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.settings.seed), ("demos", "prior", "steer").index(phase))


def evaluated_once(
    directory: RunDirectory, progress: Progress, env: Env, agent: Agent, episodes: int, elsewhere: str = ""
) -> Figures:
    """Figures of an agent on the evaluation episodes: those in the directory, or new ones; `elsewhere` labels an
    environment that is not the run's."""
    label = f"{agent.name} on {env.model.backend}, {episodes} episodes{elsewhere}"

    def play() -> Figures:
        progress("evaluate", 0.0, label)
        start = time.monotonic()
        figures = evaluate(env, agent, episodes)
        progress("evaluate", 1.0, f"{label}: success {figures['success']:.1%}")
        return {"policy": agent.name, **figures, "wall_s": time.monotonic() - start}

    return directory.figures_once(label, play)
