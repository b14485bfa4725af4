"""Self-supervised adaptation: views of clips, objectives with explicit state."""
