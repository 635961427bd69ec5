"""Storyboard to film, trace and manifest: the main consumer of `rollout`."""
