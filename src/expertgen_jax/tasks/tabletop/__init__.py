"""Tasks on a table, with a parallel-jaw gripper."""
