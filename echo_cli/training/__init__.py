"""Training of the embedded model: the stages that learn the little world, their lessons, and the course through
them."""
