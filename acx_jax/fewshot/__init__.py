"""Few-shot learners as triples of pure functions, and episodes of them as one compiled program."""
