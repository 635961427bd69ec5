"""Benches: what memory costs, measured with the code that makes films and compared in one run."""
