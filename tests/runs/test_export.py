"""What of an artefact needs no run."""

import mujoco

from expertgen_jax.runs import export

TETRAHEDRON = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"


def test_a_scene_takes_its_files_along(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "part.obj").write_text(TETRAHEDRON)
    spec = mujoco.MjSpec()
    spec.meshdir = str(tmp_path / "task")
    spec.add_mesh(name="part", file="part.obj", scale=[0.01, 0.01, 0.01])
    spec.worldbody.add_body().add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="part")
    (tmp_path / "kit").mkdir()
    export.write_scene(spec, tmp_path / "kit")
    (tmp_path / "kit").rename(tmp_path / "elsewhere")
    (tmp_path / "task" / "part.obj").unlink()
    mj = mujoco.MjModel.from_xml_path(str(tmp_path / "elsewhere" / "scene.xml"))
    assert mj.nmeshvert == 4 and str(tmp_path) not in (tmp_path / "elsewhere" / "scene.xml").read_text()
