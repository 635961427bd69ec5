"""Weights on disk: folders, tensors, hashes, downloads and conversion."""
