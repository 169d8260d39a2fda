"""MuJoCo inside jitted programs: back ends, control, episodes, and how well a policy does in them."""
