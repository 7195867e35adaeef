"""Running models with onnxruntime and OpenCV alone: nothing here imports torch or the onnx package."""
