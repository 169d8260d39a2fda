"""Why a run falls short, as far as its figures tell."""

from collections.abc import Sequence
from typing import Any

from expertgen_jax.learning.demos import Asked, DemoConfig

PAGE = "When it does not learn (docs/when_it_does_not_learn.md)"


def scarce(asked: Asked, config: DemoConfig) -> str:
    """What a person is told where successes are fewer than the prior needs; "" where they are not."""
    if not asked.succeeded:
        return "no demonstration succeeds; the prior clones all of them, and steering will hardly find a reward"
    if asked.succeeded < min(config.successes, 100):
        return (
            f"only {asked.succeeded} of {asked.episodes} demonstrations succeed; a demonstrator that varies more, or "
            "a larger --demo.max-episodes, would help"
        )
    return ""


def advice(rows: Sequence[dict[str, Any]], target: float) -> str:
    """What a person is told of a steering that ended without reaching its target: how it ended, the likely cause, and
    what to try; "" where it reached it.

    Args:
      rows: of `metrics.jsonl`.
      target: of steering.
    """
    end = next((row for row in rows if row["phase"] == "steered"), None)
    steps = [row for row in rows if row["phase"] == "steer"]
    if end is None or not steps or end["ended"] == "target confirmed":
        return ""
    told = f"steering ended without reaching {target:.0%} ({end['ended']}): {end['success']:.1%}. "
    return f"{told}{_cause(rows, steps, end['ended'], end['success'])}. See {PAGE}"


def _cause(rows: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]], ended: str, success: float) -> str:
    demos = next((row for row in rows if row["phase"] == "demos"), None)
    trained = [row["train_success"] for row in steps if "train_success" in row]
    last = steps[-1]
    share = last["diverged"] / max(last["train_episodes"], 1)
    if demos is not None and not demos["success"]:
        return "No demonstration succeeds: mend the script first"
    if share > 0.02:
        return f"Physics diverges in {share:.1%} of the episodes: a shorter timestep, or more damping"
    if trained and trained[0] < 0.01:
        return f"The prior succeeds in {trained[0]:.1%} only: more successful demonstrations, which vary"
    if ended == "out of episodes" and len(trained) > 3 and trained[-1] > max(trained[: -len(trained) // 4]):
        return "Success still climbs: the same command with more --steer.episodes goes on from here"
    if last["q_mean"] > success + 0.1:
        return f"Critics expect {last['q_mean']:.0%}, which does not happen: more to see for them (`privileged`)"
    if last["noise_saturation"] > 0.9:
        return (
            f"{last['noise_saturation']:.0%} of the noise is at its bound: more warm-up, or a larger --steer.noise-cost"
        )
    return "Demonstrations that never succeed where episodes fail are the usual cause: vary the demonstrator"
