"""Storyboard to film, trace and manifest: the consumer of `rollout` that everyone uses."""
