"""The HTTP service of `kpedge serve`: programs send a photo and get its faces as JSON. Needs the extra `serve`."""
