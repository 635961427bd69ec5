"""Wan 2.1: text encoder, codec, names of weights, and folders with random ones."""
