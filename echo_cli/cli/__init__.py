"""The command line: one small file a command, all behind one table and one error boundary."""
