"""Meshes of what MuJoCo knows as boxes, capsules and the like."""

import mujoco
import numpy as np
import pytest

from expertgen_jax.viewer.shapes import shapes


def test_every_kind_of_geom_has_its_shape():
    spec = mujoco.MjSpec()
    vertices = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]
    spec.add_mesh(name="mesh", uservert=vertices)
    kinds = ("PLANE", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX", "MESH")
    for kind in kinds:
        mesh = {"meshname": "mesh"} if kind == "MESH" else {}
        spec.worldbody.add_geom(type=getattr(mujoco.mjtGeom, f"mjGEOM_{kind}"), size=[0.1, 0.2, 0.3], **mesh)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[1, 1, 1], group=3)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[1, 1, 1], rgba=[1, 1, 1, 0])
    model = spec.compile()
    found = shapes(model)
    assert list(found) == list(range(len(kinds)))
    for geom in range(1, len(kinds)):
        middle, half = np.split(model.geom_aabb[geom], 2)
        np.testing.assert_allclose(found[geom].bounds, [middle - half, middle + half], atol=2e-3)
        assert found[geom].volume > 0, f"{kinds[geom]}: seen from inside"
    np.testing.assert_allclose(found[0].bounds, [[-0.1, -0.2, 0], [0.1, 0.2, 0]])
    np.testing.assert_allclose(found[0].face_normals, [[0, 0, 1]] * 2)


def test_endless_planes_end():
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.5, 0, 0])
    model = spec.compile()
    assert shapes(model)[0].extents[0] == pytest.approx(10 * model.stat.extent)
