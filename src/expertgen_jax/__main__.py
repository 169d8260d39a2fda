"""`python -m expertgen_jax` is the command `expertgen`."""

from expertgen_jax.cli.main import main

main()
