"""The storyboard: what an author writes, checked line by line, and the frame-exact timeline that it becomes."""
