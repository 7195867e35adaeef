"""Models run with onnxruntime and OpenCV alone: photos, videos, cameras."""
