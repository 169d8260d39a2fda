"""What a run is on disk: its settings, phases, checkpoints, tables and figures."""
