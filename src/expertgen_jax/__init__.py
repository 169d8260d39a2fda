"""ExpertGen in JAX: expert robot policies from imperfect demonstrations, without reward engineering."""
