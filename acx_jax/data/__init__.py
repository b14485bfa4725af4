"""From videos and annotations to stored clips and features: numpy code, no jax in it."""
