"""The same as `expertgen steer`."""

from expertgen_jax.cli.steer import main

main()
