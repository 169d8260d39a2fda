"""What of an artefact needs no run."""

import shutil

import mujoco
import numpy as np

from expertgen_jax.runs import export

TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def test_a_scene_takes_its_files_along(tmp_path):
    for folder, size in (("left", 1), ("right", 2)):
        (tmp_path / "task" / folder).mkdir(parents=True)
        (tmp_path / "task" / folder / "part.obj").write_text(TETRAHEDRON.replace("1 0 0", f"{size} 0 0"))
    spec = mujoco.MjSpec()
    spec.meshdir = str(tmp_path / "task")
    for folder in ("left", "right"):
        spec.add_mesh(name=folder, file=f"{folder}/part.obj", scale=[0.01, 0.01, 0.01])
        spec.worldbody.add_body().add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=folder)
    here = spec.copy().compile()
    (tmp_path / "kit").mkdir()
    export.write_scene(spec, tmp_path / "kit")
    (tmp_path / "kit").rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "task")
    mj = mujoco.MjModel.from_xml_path(str(tmp_path / "elsewhere" / "scene.xml"))
    np.testing.assert_allclose(mj.mesh_vert, here.mesh_vert, atol=1e-6)
    assert mj.nmesh == 2 and str(tmp_path) not in (tmp_path / "elsewhere" / "scene.xml").read_text()
