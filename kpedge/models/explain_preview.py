"""Images of an explanation: heat over the crop, feature maps, kernels, and all of them on one preview."""

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kpedge.core.drawing import BLACK, WHITE, contact_sheet, draw_keypoints
from kpedge.core.geometry import Image, fractions_to_pixels
from kpedge.core.scheme import KeypointScheme
from kpedge.models.explain import Explanation, FeatureMaps, Heat

LARGE, MIDDLE, SMALL = 560, 144, 168  # sides of tiles, pixels: alone, in a grid, on the overview
GRID = (8, 4)  # columns and rows of a grid of maps or kernels: the strongest are shown
COLUMNS = 8  # of the overview
OPAQUE = 0.8  # how much of the crop the strongest heat covers
_BAR = 26
_FONT, _LETTERS = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_GREY = (32, 32, 32)


def draw_all(explanation: Explanation, scheme: KeypointScheme) -> dict[str, Image]:
    """All images of an explanation, uint8 (H, W, 3), by the names of their files: `overview.png`, `point_NN_NAME.png`
    for each point, `face.png` where there is a score, `maps_N_LAYER.png` for each stage, `kernels.png`.
    """
    images: dict[str, Image] = {"overview.png": overview(explanation, scheme)}
    how = "averaged" if explanation.averaged else "in place"
    for index, heat in explanation.points.items():
        name = scheme.points[index]
        title = f"{index} {name}: what moves it. Grad-CAM at {heat.layer}, gradients {how}"
        x, y = explanation.keypoints[index]
        tile = heat_tile(explanation, heat, LARGE, index)
        images[f"point_{index:02}_{_file_name(name)}.png"] = _alone(
            tile, f"found at {x:.3f}, {y:.3f} of the crop", title
        )
    if explanation.face is not None:
        title = f"face score: what raises it. Grad-CAM at {explanation.face.layer}, gradients {how}"
        tile = heat_tile(explanation, explanation.face, LARGE)
        images["face.png"] = _alone(tile, f"score {explanation.score:.3f}", title)
    for number, maps in enumerate(explanation.stages, 1):
        tiles, captions = map_tiles(maps, MIDDLE, GRID[0] * GRID[1])
        channels, height, width = maps.values.shape
        title = f"{maps.name}: {channels} channels of {height}x{width}, the {len(tiles)} that vary most"
        images[f"maps_{number}_{_file_name(maps.name)}.png"] = _titled(contact_sheet(tiles, captions, GRID[0]), title)
    tiles, captions = kernel_tiles(explanation.kernels, MIDDLE, GRID[0] * GRID[1])
    count, _, height, width = explanation.kernels.shape
    title = f"first convolution: {count} kernels of {height}x{width}, the strongest {len(tiles)}; grey is 0"
    images["kernels.png"] = _titled(contact_sheet(tiles, captions, GRID[0]), title)
    return images


def overview(explanation: Explanation, scheme: KeypointScheme) -> Image:
    """Everything on one preview, uint8 (H, W, 3): the crop with its points, the heats, and for each stage, and for the
    first convolution, the strongest channels in a row.
    """
    crop = crop_tile(explanation, SMALL)
    points = fractions_to_pixels(explanation.keypoints, SMALL)
    draw_keypoints(crop, points, scheme, size=SMALL / 2)
    tiles, captions = [crop], ["the crop, points found"]
    if explanation.face is not None:
        tiles.append(heat_tile(explanation, explanation.face, SMALL))
        captions.append(f"face, score {explanation.score:.3f}")
    for index, heat in explanation.points.items():
        tiles.append(heat_tile(explanation, heat, SMALL, index))
        captions.append(f"{index} {scheme.points[index]}")
    rows = [map_tiles(maps, SMALL, COLUMNS, f"{maps.name} #") for maps in explanation.stages]
    for more, names in (*rows, kernel_tiles(explanation.kernels, SMALL, COLUMNS, "kernel #")):
        missing = -len(tiles) % COLUMNS
        tiles += [np.full_like(crop, _GREY)] * missing + more
        captions += [""] * missing + names
    how = "averaged" if explanation.averaged else "in place"
    layers = {heat.layer for heat in explanation.points.values()}
    title = (
        f"Grad-CAM at {', '.join(sorted(layers)) or 'no layer'}, gradients {how}; then the strongest maps and kernels"
    )
    return _titled(contact_sheet(tiles, captions, COLUMNS), title)


def crop_tile(explanation: Explanation, side: int) -> Image:
    """The crop as the model got it, enlarged, uint8 (side, side, 3)."""
    crop = explanation.crop
    colour = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR) if crop.shape[2] == 1 else crop
    return np.asarray(cv2.resize(colour, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def heat_tile(explanation: Explanation, heat: Heat, side: int, point: int | None = None) -> Image:
    """Heat over the crop, and a ring where the point was found, uint8 (side, side, 3).

    A cell is drawn in the middle of what it sees; heat fades out beyond the outermost ones, within a cell.
    """
    zoom = side / explanation.crop.shape[0]
    scale, offset = heat.grid.pitch * zoom, (heat.grid.start + 0.5) * zoom - 0.5
    place = np.array([[scale, 0, offset], [0, scale, offset]])
    spread = cv2.warpAffine(
        heat.values, place, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    strength = np.clip(spread, 0, 1)
    colours = cv2.applyColorMap(np.round(255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)
    cover = OPAQUE * strength[:, :, None]
    tile = np.round(crop_tile(explanation, side) * (1 - cover) + colours * cover).astype(np.uint8)
    if point is not None:
        x, y = (round(float(value)) for value in fractions_to_pixels(explanation.keypoints[point], side))
        radius = max(3, side // 45)
        for colour, width in ((BLACK, 3), (WHITE, 1)):
            cv2.circle(tile, (x, y), radius, colour, width, cv2.LINE_AA)
    return tile


def map_tiles(maps: FeatureMaps, side: int, count: int, prefix: str = "") -> tuple[list[Image], list[str]]:
    """Tiles and captions of the channels that vary most, the strongest first, each from its lowest to its highest
    value, dark to bright.
    """
    tiles, captions = [], []
    for channel in np.argsort(-maps.values.std(axis=(1, 2)), kind="stable")[:count]:
        values = maps.values[channel]
        normal = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
        coloured = np.asarray(cv2.applyColorMap(_levels(normal), cv2.COLORMAP_VIRIDIS), dtype=np.uint8)
        tiles.append(_enlarge(coloured, side))
        captions.append(f"{prefix}{channel}")
    return tiles, captions


def kernel_tiles(
    kernels: NDArray[np.float32], side: int, count: int, prefix: str = ""
) -> tuple[list[Image], list[str]]:
    """Tiles, uint8 (side, side, 3), and captions of at most `count` kernels (N, C, k, k) of greatest norm, the
    strongest first; grey is 0, and the largest weight of each is black or white. Three channels are shown as blue,
    green and red, one as grey.
    """
    tiles, captions = [], []
    for number in np.argsort(-np.linalg.norm(kernels.reshape(len(kernels), -1), axis=1), kind="stable")[:count]:
        kernel = kernels[number].transpose(1, 2, 0)
        levels = _levels(0.5 + 0.5 * kernel / max(float(np.abs(kernel).max()), 1e-12))
        colour = np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels
        tiles.append(_enlarge(colour, side))
        captions.append(f"{prefix}{number}")
    return tiles, captions


def _levels(values: NDArray[np.floating[Any]]) -> Image:
    return np.asarray(np.round(255 * np.clip(values, 0, 1)), dtype=np.uint8)


def _enlarge(image: NDArray[np.uint8], side: int) -> Image:
    """Without smoothing: what was computed is seen as it is."""
    return np.asarray(
        cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=cv2.INTER_NEAREST), dtype=np.uint8
    )


def _alone(tile: Image, caption: str, title: str) -> Image:
    return _titled(contact_sheet([tile], [caption], 1), title)


def _titled(preview: Image, title: str) -> Image:
    """A preview with a line above it, which is written smaller where it is too long."""
    bar = np.full((_BAR, preview.shape[1], 3), _GREY, np.uint8)
    width = cv2.getTextSize(title, _FONT, _LETTERS, 1)[0][0]
    scale = _LETTERS * min(1.0, (preview.shape[1] - 12) / width)
    cv2.putText(bar, title, (6, _BAR - 8), _FONT, scale, WHITE, 1, cv2.LINE_AA)
    return np.concatenate([bar, preview])


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
