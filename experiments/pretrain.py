"""The same as `expertgen pretrain`."""

from expertgen_jax.cli.pretrain import main

main()
