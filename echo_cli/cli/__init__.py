"""The command line: one small file for each command, all behind one table and one error boundary."""
