"""The little world that `tiny` was trained on: its stories, drawings and words, and what judges films of it."""
