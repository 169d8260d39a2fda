"""Episodes as a recording for Rerun: the scene in 3D, what is observed and done, and what cameras see, over time."""

from pathlib import Path

import numpy as np

from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic
from expertgen_jax.viewer.session import Session
from expertgen_jax.vision.camera import geom_rgba

try:
    import rerun as rr

    from expertgen_jax.viewer.shapes import shapes
except ImportError as error:
    raise UserError("--out FILE.rrd needs: pip install 'expertgen-jax[rerun]'") from error

_PICTURE = 64  # pixels


def write(path: Path, session: Session, episodes: int) -> None:
    """Plays episodes to their ends, from the session's on, and writes them one after another.

    The timeline is `time` (s). Entities: `scene/GEOM` (m), `observation/PART` in the units of `Task.observation`,
    `action`, `cameras/CAMERA/colour` and `depth` (m), and the text `episode`.
    """
    with atomic(path) as temporary:
        stream = rr.RecordingStream("expertgen_jax")
        stream.save(temporary)
        stream.log("scene", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        begin = 0.0
        for seed in range(session.seed, session.seed + episodes):
            session.reset(seed)
            stream.set_time("time", duration=begin)
            stream.log("episode", rr.TextLog(f"{session.choice}, episode {seed}"))
            names = _shapes(stream, session)
            while True:
                now = begin + session.data.time
                stream.set_time("time", duration=now)
                _state(stream, session, names)
                if session.over:
                    break
                session.step()
            stream.log("episode", rr.TextLog(session.ending))
            begin = now + session.env.task.control_dt
        stream.flush()
        stream.disconnect()


def _shapes(stream: "rr.RecordingStream", session: Session) -> dict[int, str]:
    """Logs the shapes of this episode; returns the entity of each geom."""
    model, names = session.model, {}
    for geom, mesh in shapes(model).items():
        names[geom] = rr.new_entity_path(["scene", model.geom(geom).name or f"geom {geom}"])
        archetype = rr.Mesh3D(
            vertex_positions=mesh.vertices,
            triangle_indices=mesh.faces,
            vertex_normals=mesh.vertex_normals,
            albedo_factor=geom_rgba(model)[geom],
        )
        stream.log(names[geom], archetype)
    return names


def _state(stream: "rr.RecordingStream", session: Session, names: dict[int, str]) -> None:
    """Logs what changes from a control step to the next."""
    for geom, name in names.items():
        pose = rr.Transform3D(translation=session.data.geom_xpos[geom], mat3x3=session.data.geom_xmat[geom])
        stream.log(name, pose)
    for part, values in session.observation.items():
        stream.log(rr.new_entity_path(["observation", part]), rr.Scalars(values))
    stream.log("action", rr.Scalars(session.action))
    for camera, picture in session.pictures(_PICTURE).items():
        name = rr.new_entity_path(["cameras", camera])
        stream.log(f"{name}/colour", rr.Image((255 * picture.rgb).astype(np.uint8)))
        stream.log(f"{name}/depth", rr.DepthImage(picture.depth, meter=1.0))
