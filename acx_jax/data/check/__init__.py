"""What can be said of a data set before hours are spent on it: its media, copies, shared cameras, leaks, possible episodes."""
