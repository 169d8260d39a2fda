"""The same as `expertgen reproduce`."""

from expertgen_jax.cli.reproduce import main

main()
