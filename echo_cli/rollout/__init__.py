"""Rollout: the few steps that make a block, and the loop that makes a film of blocks."""
