"""Tuning: flags, devices, the loop, checkpoints, the run directory."""
