"""Sockets: what a plug goes into. Each is a mocap body, so that its pose is part of an episode's start."""

import mujoco


def add_square_hole(
    spec: mujoco.MjSpec, half_width: float, depth: float, outer_half_width: float = 0.04
) -> mujoco.MjsBody:
    """Adds a block with a square through hole, standing on the table: four boxes around the mocap body `socket`.

    Args:
      spec: the scene.
      half_width: of the hole (m).
      depth: height of the block (m); the hole's bottom is the table.
      outer_half_width: of the block (m).

    Returns:
      The body; its origin is the centre of the hole's bottom.
    """
    body = spec.worldbody.add_body(name="socket", mocap=True)
    wall = (outer_half_width - half_width) / 2
    offset = half_width + wall
    for name, x, y, size_x, size_y in (
        ("wall_px", offset, 0.0, wall, outer_half_width),
        ("wall_nx", -offset, 0.0, wall, outer_half_width),
        ("wall_py", 0.0, offset, half_width, wall),
        ("wall_ny", 0.0, -offset, half_width, wall),
    ):
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[x, y, depth / 2],
            size=[size_x, size_y, depth / 2],
            material="steel",
            contype=0,
            conaffinity=2,
        )
    return body
