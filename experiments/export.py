"""The same as `expertgen export`."""

from expertgen_jax.cli.export import main

main()
