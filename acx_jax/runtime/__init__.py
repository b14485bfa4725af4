"""What any long-running program needs: devices, checkpoints, a log."""
