"""ExpertGen in JAX: expert robot policies from imperfect demonstrations, without reward engineering."""

import os

# XLA reports each program that it loads from the compilation cache as built for another machine (openxla/xla#44565).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# XLA's thread pool on the CPU is as large as NPROC says. jaxlib 0.10 shares each batched Cholesky out over the pool
# that it runs on, and waits: as many at once as there are threads, two in MJX, wait for ever.
_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("NPROC", str(max(4, _cores)))
