"""The same as `expertgen distill`."""

from expertgen_jax.cli.distill import main

main()
