"""ExpertGen in JAX: expert robot policies from imperfect demonstrations, without reward engineering."""

import os

# XLA reports each program that it loads from the compilation cache as built for another machine (openxla/xla#44565).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
