"""What the suites measure against: the same mathematics in PyTorch, written as a PyTorch user would. Only here is it imported."""
