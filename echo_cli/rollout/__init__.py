"""Rollout: the few steps that generate a block, and the loop that generates a film block by block."""
