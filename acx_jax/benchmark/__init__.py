"""Measurements, alone or beside a peer: python -m acx_jax.benchmark --suite=NAME."""
