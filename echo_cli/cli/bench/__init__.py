"""The commands of `echo-cli bench`."""
