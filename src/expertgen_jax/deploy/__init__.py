"""The robot's side: an exported policy in a loop of fixed rate, and a simulated robot in a process of its own."""
