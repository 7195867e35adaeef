"""The command line: each command parses its arguments, calls the package that does the work, and prints."""
