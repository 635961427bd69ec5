"""What memory did during a run: typed records, a streaming file, and ways to look at it. No torch."""
