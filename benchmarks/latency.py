"""How long exported policies take to decide, one percept at a time.

    expertgen export --run-dir runs/peg-1 --out artefact
    python benchmarks/latency.py artefact --out results/latency.json

A decision is what `expertgen deploy` waits for at each: what is felt is computed from what is read, and the policy acts
on it and on what is seen; making pictures is the robot's affair.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from expertgen_jax import bounds
from expertgen_jax.bounds import Count
from expertgen_jax.cli import command
from expertgen_jax.deploy import artefact
from expertgen_jax.deploy.artefact import Artefact, Pilot
from expertgen_jax.errors import UserError
from expertgen_jax.files import write_json
from expertgen_jax.runs.provenance import provenance


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds that exported policies take to decide."""

    artefacts: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `expertgen export` wrote."""
    decisions: Count = 1000
    """Decisions, after what is compiled."""
    out: Path | None = None
    """JSON file for the figures."""


def main(args: Latency) -> None:
    bounds.check(args)
    if not args.artefacts:
        raise UserError("which artefacts? `expertgen export` writes them")
    if args.out is not None:
        command.prepare(args.out)
    rows = []
    for loaded in [artefact.load(folder) for folder in args.artefacts]:
        artefact.rehearse(loaded)
        times = decision_ms(loaded, args.decisions)
        figures = {"median": np.median(times), "99 %": np.quantile(times, 0.99), "most": times.max()}
        about = {name: loaded.card[name] for name in ("task", "policy")}
        rows.append(about | {"decisions": args.decisions, "ms": {name: float(x) for name, x in figures.items()}})
        print(rows[-1], flush=True)
    if args.out is not None:
        write_json(args.out, {**provenance(), "rows": rows})


def decision_ms(loaded: Artefact, count: int) -> np.ndarray:
    """How long each of so many decisions of an episode took."""
    pilot, times = Pilot(loaded), []
    reading, pictures = artefact.blank(loaded)
    for _ in range(count):
        began = time.perf_counter()
        pilot.decide(reading, pictures)
        times.append(1000 * (time.perf_counter() - began))
    return np.array(times)


if __name__ == "__main__":
    command.run("latency", Latency, main, None)
