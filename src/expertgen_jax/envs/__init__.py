"""Tasks as environments of other libraries, and environments of theirs as tasks."""
