"""Export formats, one file each; `kpedge.export.registry` lists them."""
