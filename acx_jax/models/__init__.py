"""Pure linen modules: encoders of video clips and heads over their features."""
