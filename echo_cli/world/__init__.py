"""The little world that `tiny` was trained on: its stories, drawings and words, and the judges of films of it."""
