"""The tasks: a registry, the contract's check, and two families."""
