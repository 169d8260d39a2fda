"""The empty scene: options that make contact honest, a table, light."""

import mujoco

DRY_FRICTION_SEARCH = 30
"""Steps of the line search where joints rub: with 6 the solver stops short of a kink, and friction drives things on."""


def empty_scene(timestep: float = 0.005, max_contact_points: int = 12) -> mujoco.MjSpec:
    """A table at z = 0 under a light, with contacts stiff enough for clearances of 0.06 mm.

    MuJoCo's default contacts let a part sink further into a wall than the clearance of an assembly task. Here the
    contact time constant is twice the timestep, the stiffest that the integrator carries, and the impedance rises from
    0.5 at the first touch to 0.93 at 6 um: a hand that pushes with 8 N sinks in 5 um. It must be soft at first, because
    MJX does not see a box that is less than 1 um deep in another: where 1 um bears newtons, as at an impedance of 0.9
    from the first touch on, contacts come and go, and a peg pressed into a corner hops 0.1 mm deep.

    The integrator is Euler: the implicit ones add damping to the inertia after contact forces were computed without
    it, and a stiffly damped hand that presses down then chatters (0.6 mm deep, where Euler rests at 0.001 mm).

    Args:
      timestep: length of a substep (s).
      max_contact_points: cap on the contacts that MJX-JAX keeps (the deepest); the C engine keeps all.
    """
    spec = mujoco.MjSpec()
    spec.option.timestep = timestep
    spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    spec.option.iterations = 10
    spec.option.ls_iterations = 6  # in MJX every world waits for the slowest: 20 take half as long again
    default = spec.default.geom
    default.solref = [2 * timestep, 1.0]
    default.solimp = [0.5, 0.93, 6e-6, 0.5, 2.0]
    default.friction = [0.4, 0.005, 0.0001]
    default.condim = 3
    spec.add_numeric(name="max_contact_points", data=[float(max_contact_points)])

    spec.add_material(name="table", rgba=[0.82, 0.80, 0.76, 1])
    spec.add_material(name="steel", rgba=[0.62, 0.65, 0.70, 1])
    spec.add_material(name="plug", rgba=[0.90, 0.45, 0.15, 1])
    spec.add_material(name="hand", rgba=[0.25, 0.27, 0.32, 1])
    spec.worldbody.add_light(pos=[0.3, -0.3, 0.8], dir=[-0.4, 0.4, -0.8])
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.4, 0.4, 0.05],
        material="table",
        contype=1,
        conaffinity=1,
    )
    return spec
