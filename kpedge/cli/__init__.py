"""The command line: each command parses, calls, and renders; nothing is computed here."""
