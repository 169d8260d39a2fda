"""The geoms of a scene as meshes, for what draws meshes; by the library trimesh."""

import mujoco
import numpy as np
import trimesh

from expertgen_jax.vision.camera import geom_rgba


def shapes(model: mujoco.MjModel) -> dict[int, trimesh.Trimesh]:
    """Shapes of the opaque geoms of groups 0 to 2, in their own frames (m), by MuJoCo's number of the geom."""
    seen = np.flatnonzero((model.geom_group < 3) & (geom_rgba(model)[:, 3] > 0)).tolist()
    return {geom: found.smooth_shaded for geom in seen if (found := shape(model, geom)) is not None}


def shape(model: mujoco.MjModel, geom: int) -> trimesh.Trimesh | None:
    """A geom in its own frame (m); None of a height field.

    A plane is seen from above only, and one without end is ten times as large as the scene.
    """
    x, y, _ = size = model.geom_size[geom]
    match mujoco.mjtGeom(model.geom_type[geom]):
        case mujoco.mjtGeom.mjGEOM_BOX:
            return trimesh.creation.box(2 * size)
        case mujoco.mjtGeom.mjGEOM_SPHERE:
            return trimesh.creation.icosphere(radius=x)
        case mujoco.mjtGeom.mjGEOM_ELLIPSOID:
            return trimesh.creation.icosphere().apply_scale(size)
        case mujoco.mjtGeom.mjGEOM_CAPSULE:
            return trimesh.creation.capsule(2 * y, x)
        case mujoco.mjtGeom.mjGEOM_CYLINDER:
            return trimesh.creation.cylinder(x, 2 * y, 48)
        case mujoco.mjtGeom.mjGEOM_PLANE:
            x, y = x or 5 * model.stat.extent, y or 5 * model.stat.extent
            return trimesh.Trimesh([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]], [[0, 1, 2], [0, 2, 3]])
        case mujoco.mjtGeom.mjGEOM_MESH:
            mesh = model.mesh(model.geom_dataid[geom])
            (vertex,), (vertices,), (face,), (faces,) = mesh.vertadr, mesh.vertnum, mesh.faceadr, mesh.facenum
            return trimesh.Trimesh(model.mesh_vert[vertex : vertex + vertices], model.mesh_face[face : face + faces])
    return None
