"""Where frames and faces go: a window, a file, JSON lines, a browser."""
