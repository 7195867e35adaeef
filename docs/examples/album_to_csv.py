"""A photo album as a table: a row for each face, with its box, head pose and keypoints.

python album_to_csv.py PHOTOS faces.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import kpedge

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def main(photos: Path, table: Path) -> None:
    """Write the table of a folder of photos and the folders below it."""
    model = kpedge.load("stage3")
    names = [f"{point}_{axis}" for point in model.scheme.points for axis in "xy"]
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "score", "x1", "y1", "x2", "y2", "yaw", "pitch", "roll", *names])
        for photo in sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES):
            try:
                faces = model(photo)
            except kpedge.ImageError as error:  # a damaged file does not stop the album
                print(f"left out: {error}", file=sys.stderr)
                continue
            for face in faces:
                if not len(face.keypoints):
                    continue
                pose = ("", "", "") if face.pose is None else (face.pose.yaw, face.pose.pitch, face.pose.roll)
                numbers = [*face.box, *pose, *face.keypoints.ravel()]
                row = [f"{number:.1f}" if number != "" else "" for number in numbers]
                writer.writerow([photo.relative_to(photos), "" if face.score is None else f"{face.score:.3f}", *row])


if __name__ == "__main__":
    if len(sys.argv) != 3 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
