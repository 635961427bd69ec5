"""The storyboard: what a person writes, checked line by line, and the frame-exact timeline it becomes."""
