"""An exported policy, loaded: what `runs.export` wrote, between a robot's readings and its targets."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from expertgen_jax.errors import UserError

VERSION = 3
"""Of the format, which `runs.export` writes."""
Reading = Mapping[str, Any]
"""What a robot reports: fields of MuJoCo's state by name; `context`, a list of arrays, where a policy sees by it."""


class Artefact(NamedTuple):
    """An exported policy.

    Attributes:
      folder: where it lies.
      card: what goes in and comes out; `folder` is added to what is written there.
      programs: by name, see `runs.export`.
    """

    folder: Path
    card: Mapping[str, Any]
    programs: Mapping[str, Any]

    def state(self, reading: Reading) -> dict[str, np.ndarray]:
        """The state that programs take; fields that the policy does not read are zeros.

        Raises:
          ValueError: a field that it reads is missing, of another shape, or not finite.
        """
        state = {}
        for name, shape in self.card["state"]["shapes"].items():
            needed = name in self.card["state"]["read"]
            if needed and name not in reading:
                raise ValueError(f"'{name}' is missing")
            values = np.asarray(reading[name] if needed else np.zeros(shape), np.float32)
            if values.shape != tuple(shape):
                raise ValueError(f"'{name}' has shape {values.shape}, expected {tuple(shape)}")
            if not np.isfinite(values).all():
                raise ValueError(f"'{name}' holds numbers that are not finite")
            state[name] = values
        return state

    def context(self, reading: Reading) -> list[np.ndarray]:
        """The context that programs take: of what sees by the state as it is reported, else zeros.

        Raises:
          ValueError: there is not as much of it as there should be.
        """
        wanted = self.card["state"]["context"]
        if self.card["inputs"]["pictures"]["kind"] != "state":
            return [np.zeros(shape, kind) for shape, kind in wanted]
        told = reading.get("context", [])
        if len(told) != len(wanted):
            raise ValueError(f"'context' has {len(told)} arrays, expected {len(wanted)}")
        return [np.asarray(x, kind).reshape(shape) for x, (shape, kind) in zip(told, wanted, strict=True)]


def load(folder: Path) -> Artefact:
    """Loads what `expertgen export` wrote.

    Raises:
      UserError: the folder holds nothing of the kind, something of another version, or something damaged.
    """
    try:
        card = json.loads((folder / "card.json").read_text())
        version, digests = card["version"], card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no card.json of an exported policy there ({error})") from error
    if version != VERSION:
        raise UserError(f"{folder}: version {version} of the format; this one knows {VERSION}: export the policy again")
    programs = {}
    for name, digest in digests.items():
        path = folder / f"{name}.jax"
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise UserError(f"{path}: missing or damaged; export the policy again")
        programs[name] = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return Artefact(folder, card | {"folder": str(folder.resolve())}, programs)


class Pilot:
    """A policy on its way through an episode: it remembers what it perceived and did."""

    def __init__(self, artefact: Artefact, seed: int = 0):
        """Before the first decision.

        Args:
          artefact: the policy.
          seed: of what is random in it.
        """
        self.artefact, self.seed, self.decisions = artefact, seed, 0
        inputs, output = artefact.card["inputs"], artefact.card["output"]
        self._past = np.zeros((inputs["past_actions"], output["shape"][1]), np.float32)
        self._percepts: list[tuple[np.ndarray, np.ndarray]] = []

    def decide(self, reading: Reading, pictures: np.ndarray) -> np.ndarray:
        """The next action chunk `[chunk, action_size]`, given what is read and seen now.

        Raises:
          ValueError: what is read or seen is not what the policy expects, or it gives no finite actions.
        """
        inputs, programs = self.artefact.card["inputs"], self.artefact.programs
        pictures = np.asarray(pictures, np.float32)
        if pictures.shape != tuple(inputs["pictures"]["shape"]):
            expected = tuple(inputs["pictures"]["shape"])
            raise ValueError(f"pictures have shape {pictures.shape}, expected {expected}")
        if not np.isfinite(pictures).all():
            raise ValueError("pictures hold numbers that are not finite")
        felt = np.append(programs["sense"](self.artefact.state(reading), self.artefact.context(reading)), self._past)
        self._percepts = [(felt, pictures), *self._percepts][: inputs["history"]]
        filled = [*self._percepts, *[self._percepts[-1]] * inputs["history"]][: inputs["history"]]
        vectors, seen = (np.stack(x) for x in zip(*filled, strict=True))
        self.decisions += 1
        chunk = np.asarray(programs["policy"](vectors, seen, np.array([self.seed, self.decisions], np.uint32)))
        if not np.isfinite(chunk).all():
            raise ValueError("the policy gives actions that are not finite")
        return chunk

    def target(self, reading: Reading, action: np.ndarray) -> np.ndarray:
        """What an action tells the actuators `[nu]`."""
        self._past = np.concatenate([action[None], self._past])[: len(self._past)]
        return np.asarray(self.artefact.programs["control"](self.artefact.state(reading), action))


def blank(artefact: Artefact) -> tuple[Reading, np.ndarray]:
    """A reading and pictures of the right shapes, all zeros."""
    state, inputs = artefact.card["state"], artefact.card["inputs"]
    reading: dict[str, Any] = {name: np.zeros(state["shapes"][name]) for name in state["read"]}
    reading["context"] = [np.zeros(shape) for shape, _ in state["context"]]
    return reading, np.zeros(inputs["pictures"]["shape"])


def rehearse(artefact: Artefact) -> None:
    """Compiles the programs of a pilot, which takes seconds, before a robot waits for them."""
    pilot, (reading, pictures) = Pilot(artefact), blank(artefact)
    pilot.target(reading, pilot.decide(reading, pictures)[0])
