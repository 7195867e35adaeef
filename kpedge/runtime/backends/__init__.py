"""Backends other than onnxruntime, one file each; `kpedge.runtime.registry` lists them."""
