"""Settings of runs that take seconds."""

SMALL = [
    *("--demo.episodes", "64", "--demo.max-episodes", "64", "--prior.train-steps", "50", "--prior.width", "32"),
    *("--prior.sample-steps", "2", "--steer.worlds", "16", "--steer.episodes", "96", "--steer.eval-period", "32"),
    *("--steer.eval-episodes", "16", "--steer.warmup-episodes", "32", "--steer.learner.batch-size", "32"),
    *("--steer.buffer-decisions", "1024", "--steer.block-decisions", "480", "--steer.confirm-episodes", "16"),
    *("--steer.history", "2", "--eval-episodes", "16", "--transfer-episodes", "0"),
]
SMALL_STUDENT = [
    *("--student.image-size", "16", "--student.hidden", "16", "--dagger.rounds", "2"),
    *("--dagger.worlds", "4", "--dagger.decisions", "128"),
    *("--dagger.updates", "5", "--dagger.batch-size", "16", "--dagger.eval-period", "1", "--dagger.eval-episodes", "4"),
    *("--dagger.confirm-episodes", "4", "--eval-episodes", "4"),
]
