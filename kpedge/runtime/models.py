"""The two models that find faces in images, from names or files: the released ones unless others are asked for."""

from pathlib import Path
from typing import Any

from kpedge.core.card import DetectorCard, ModelCard
from kpedge.core.errors import UsageError
from kpedge.core.joint_score import JointScore
from kpedge.core.model_zoo import joint_partner, models_folder, resolve_model
from kpedge.core.text import check_whole, quote
from kpedge.runtime.backends.one_at_a_time import OneAtATime
from kpedge.runtime.detector import FaceDetector, FrameModel, detector_model
from kpedge.runtime.keypoints import CropModel, KeypointPredictor, keypoint_model
from kpedge.runtime.registry import AUTO, ONNXRUNTIME, PYTORCH_SUFFIXES, SUFFIXES
from kpedge.runtime.sessions import Model, OnnxModel, open_like, providers_named

VERIFIED = 0.9
"""Of the detector's threshold, where a keypoint model with a face score looks at what it finds: on validation photos at
640 px recall was 91 % of faces21's faces instead of 84 %, without a false alarm in 134 photos without a face.
"""
FOLLOWED = 0.7
"""Likewise in a video, whose frames are searched at 320 px, where less looks like a face: recall was 92 % instead of
77 %, without a false alarm in 134.
"""

MOST_THREADS = 1024  # more only take time to start, and those of a very large number end the process


def search_threshold(detector: DetectorCard, keypoints: ModelCard, verified: float = VERIFIED) -> float:
    """The detector's score from which on a box is passed to the keypoint model: a part of the detector's own
    threshold, `verified`, where that model has a face score.
    """
    return (detector.threshold or 0.0) * (verified if keypoints.has_score else 1.0)


def joint_score(detector: DetectorCard, keypoints: ModelCard) -> JointScore | None:
    """The joint score of a pair of models; None if it was not measured."""
    known = keypoints.joint is not None and keypoints.joint.detector_sha256 == detector.weights_sha256
    return keypoints.joint if known else None


def released_partner(detector: Any) -> CropModel | None:
    """The released keypoint model whose joint score is for a detector, run as the detector is; None if there is none,
    or onnxruntime does not run the detector: it may be missing on the device.
    """
    name = joint_partner(detector.card.weights_sha256)
    opened = open_like(detector, models_folder() / f"{name}.onnx") if name else None
    return None if opened is None else keypoint_model(opened)


def open_runtime_model(path: Path, *, threads: int = 1, provider: str = "cpu", backend: str = AUTO) -> Model:
    """Open a model that needs no PyTorch: an ONNX file, or the file or folder of another runtime's model. The backend
    is a key of `BACKENDS`; by the file when `AUTO`. The provider is what onnxruntime computes with.

    Raises:
        CorruptModelError: missing, broken, or not from kpedge.
        MissingExtraError: the backend is not installed.
        UsageError: there is no such backend or provider, no thread, or the file needs PyTorch.
    """
    check_whole("--threads", threads, 1, MOST_THREADS)
    if path.suffix in PYTORCH_SUFFIXES:
        model = "RUN" if path.name.endswith(".torchscript.pt") else quote(path)
        raise UsageError(f"{path} is a file of PyTorch", f"run: kpedge export {model} --format onnx")
    if backend == AUTO:
        backend = SUFFIXES.get(path.suffix, ONNXRUNTIME)
    if backend == ONNXRUNTIME:
        return OnnxModel(path, threads=threads, providers=providers_named(provider))
    if provider != "cpu":
        raise UsageError(f"--provider {provider} belongs to onnxruntime, not to {backend}", "leave one of them out")
    return OneAtATime(backend, path, threads)


def open_finders(
    detector: str | Path | FrameModel | FaceDetector,
    keypoints: str | Path | CropModel | KeypointPredictor,
    *,
    side: int | None = None,
    threshold: float | None = None,
    verified: float = VERIFIED,
    threads: int = 1,
    provider: str = "cpu",
    backend: str = AUTO,
) -> tuple[FaceDetector, KeypointPredictor]:
    """What finds faces, and what finds their keypoints.

    Args:
        detector: an ONNX file, the name of a released model, an open model, or a detector with its own settings.
        keypoints: the same.
        side: longer side, pixels, at which images are searched; None for the detector's own.
        threshold: the keypoint model's score from which on there is a face; None for its own.
        verified: part of the detector's threshold from which on the keypoint model looks.
        threads: for each run of a model.
        provider: what onnxruntime computes with.
        backend: what runs the models, a key of `kpedge.runtime.registry.BACKENDS`; by their files when "auto".
    """

    def opened(model: Any) -> Any:
        if not isinstance(model, str | Path):
            return model
        return open_runtime_model(resolve_model(str(model)), threads=threads, provider=provider, backend=backend)

    if not isinstance(keypoints, KeypointPredictor):
        keypoints = KeypointPredictor(keypoint_model(opened(keypoints)), threshold=threshold)
    if not isinstance(detector, FaceDetector):
        finding = detector_model(opened(detector))
        lowest = search_threshold(finding.card, keypoints.model.card, verified)
        detector = FaceDetector(finding, threshold=lowest, side=side)
    return detector, keypoints
