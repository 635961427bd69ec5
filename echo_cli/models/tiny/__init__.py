"""The embedded model: its networks, its words and its files."""
