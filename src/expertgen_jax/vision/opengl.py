"""MuJoCo's own renderer in place of `camera.render`: other light, shadows and edges than any student was trained on.

What students are tried on beside their own cameras, as experts are tried on another physics engine. It draws the same
geoms with OpenGL, on a thread of its own, called from compiled programs.
"""

import functools
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import ArrayLike

from expertgen_jax.errors import UserError
from expertgen_jax.vision.camera import FAR, LIGHT, Camera, Geoms, Image, Light, unproject

_NEAR = 0.01
_MOST_GEOMS = 200


class OpenGL:
    """Pictures of one size by MuJoCo's renderer; called like `camera.render`."""

    def __init__(self, size: int):
        """Makes the renderer of `size` by `size` pixels.

        Raises:
          UserError: this machine cannot draw with OpenGL without a display.
        """
        spec = mujoco.MjSpec()
        spec.visual.map.znear, spec.visual.map.zfar, spec.stat.extent = _NEAR, FAR, 1.0
        spec.visual.quality.shadowsize = 1024
        spec.visual.global_.offwidth = spec.visual.global_.offheight = size
        spec.worldbody.add_light(type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)  # the lamp
        model = spec.compile()
        self.size = size
        self._thread = ThreadPoolExecutor(1)  # an OpenGL context belongs to a thread

        def start() -> mujoco.Renderer:
            renderer, data = mujoco.Renderer(model, size, size, _MOST_GEOMS), mujoco.MjData(model)
            mujoco.mj_forward(model, data)
            renderer.update_scene(data)  # what `_draw` leaves alone: MuJoCo's brightness and gloss of lights
            return renderer

        try:
            self._renderer = self._thread.submit(start).result()
        except Exception as error:
            raise UserError(
                f"MuJoCo's renderer does not start ({error}): MUJOCO_GL=egl with a GPU, or MUJOCO_GL=osmesa with "
                "Debian's libosmesa6"
            ) from error

    def __call__(
        self,
        geoms: Geoms,
        camera: Camera,
        width: int,
        height: int,
        light: Light = LIGHT,
        background: ArrayLike = 1.0,
        *,
        shadows: bool = False,
    ) -> Image:
        """See `camera.render`; geoms have the first of their colours, light MuJoCo's brightness and gloss."""
        assert width == height == self.size
        pictures = (
            jax.ShapeDtypeStruct((height, width, 3), jnp.float32),
            jax.ShapeDtypeStruct((height, width), jnp.float32),
        )
        rgb, depth = jax.pure_callback(
            functools.partial(self._draw_each, geoms.types, shadows),
            pictures,
            *(geoms.pos, geoms.mat, geoms.size, geoms.paint.rgb),
            *(camera.pos, camera.mat, camera.fovy, jnp.asarray(light.direction, jnp.float32)),
            vmap_method="broadcast_all",
        )
        nothing = (depth >= FAR)[..., None]
        return Image(
            depth=depth,
            segmentation=jnp.full(depth.shape, -1),  # not told
            rgb=jnp.where(nothing, background, rgb),
            points=unproject(depth, camera),
        )

    def _draw_each(self, types: tuple[int, ...], shadows: bool, *arrays: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Pictures `[..., size, size, 3]` and depths `[..., size, size]` of scenes `[..., ...]`."""
        shape = np.shape(arrays[0])[:-2]
        flat = [np.asarray(x).reshape(-1, *np.shape(x)[len(shape) :]) for x in arrays]

        def draw_all() -> list[tuple[np.ndarray, np.ndarray]]:
            return [self._draw(types, shadows, *scene) for scene in zip(*flat, strict=True)]

        rgb, depth = zip(*self._thread.submit(draw_all).result(), strict=True)
        size = self.size
        return np.reshape(rgb, (*shape, size, size, 3)), np.reshape(depth, (*shape, size, size))

    def _draw(
        self,
        types: tuple[int, ...],
        shadows: bool,
        pos: np.ndarray,
        mat: np.ndarray,
        size: np.ndarray,
        rgb: np.ndarray,
        eye: np.ndarray,
        axes: np.ndarray,
        fovy: np.ndarray,
        towards: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        scene = self._renderer.scene
        scene.ngeom = len(types)
        for i, kind in enumerate(types):
            rgba = np.append(rgb[i], 1.0).astype(np.float32)
            mujoco.mjv_initGeom(scene.geoms[i], kind, size[i].astype(np.float64), pos[i], mat[i].ravel(), rgba)
            geom = scene.geoms[i]  # `mjv_initGeom` leaves the following as it finds them
            geom.category, geom.objtype, geom.objid = mujoco.mjtCatBit.mjCAT_DYNAMIC, mujoco.mjtObj.mjOBJ_UNKNOWN, -1
            geom.segid, geom.transparent = i, 0
        for eye_ in scene.camera:  # of both eyes
            eye_.pos, eye_.forward, eye_.up = eye, -axes[:, 2], axes[:, 1]
            eye_.frustum_near, eye_.frustum_far = _NEAR, FAR
            eye_.frustum_top = _NEAR * np.tan(fovy / 2)
            eye_.frustum_bottom, eye_.frustum_center, eye_.frustum_width = -eye_.frustum_top, 0.0, 0.0
        head, lamp = scene.lights[0], scene.lights[1]
        head.pos, head.dir = eye, -axes[:, 2]
        lamp.castshadow, lamp.dir = shadows, towards / np.linalg.norm(towards)
        lamp.pos = -lamp.dir
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._renderer.enable_depth_rendering()
        depth = np.minimum(self._renderer.render(), FAR)
        self._renderer.disable_depth_rendering()
        scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        return self._renderer.render().astype(np.float32) / 255, depth
