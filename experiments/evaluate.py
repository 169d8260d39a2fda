"""The same as `expertgen evaluate`."""

from expertgen_jax.cli.evaluate import main

main()
