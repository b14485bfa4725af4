"""Few-shot video anomaly detection in JAX: adapt an encoder to normal videos, fit a detector on a handful of anomalous ones."""

__version__ = "0.1.0"
