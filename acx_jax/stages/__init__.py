"""One file a stage: what of the config it depends on, and what it does. Only stages and main see the config."""
