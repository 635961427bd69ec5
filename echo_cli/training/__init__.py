"""Training of the embedded model: a little world to learn from, the stages that learn it, and the judges of what was
learned."""
