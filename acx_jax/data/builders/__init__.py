"""One data set builder a file."""
