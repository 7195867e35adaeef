"""Who is who: ids of tracked faces against the truth, in scenes of rendered people (`people.py`).

    python benchmarks/identities.py --out identities.json
    python benchmarks/identities.py --detections detections.json      # boxes per frame, for other trackers

Swaps are times that a person got an id that was another's; new ids are times that a person who was tracked before got
another id. Hand-overs and cuts show a second person, who must get an id of their own; a return shows the same one.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import cv2
from people import KINDS, RATE, IdentityCount, make_scene

from kpedge.core.files import write_json
from kpedge.runtime.pipeline import FacePipeline
from kpedge.runtime.tracker import SIDE, FaceTracker


def main() -> None:
    """Count over all kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=24, help="of each kind")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--detections", type=Path, help="write detected boxes and scores of every frame instead")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    counts, boxes = {}, {}
    pipeline = FacePipeline(max_side=SIDE) if arguments.detections else None
    for kind in arguments.kinds:
        count, boxes[kind] = IdentityCount(), []
        for number in range(arguments.scenes):
            scene, tracker = make_scene(kind, number), FaceTracker(pose=False)
            found = []
            for frame in range(scene.frames):
                image = scene.frame(frame)
                if pipeline is not None:
                    found.append([(*face.box.tolist(), face.score) for face in pipeline(image)])
                else:
                    found.append([(face.id, face.box) for face in tracker(image, frame / RATE)])
            if pipeline is not None:
                boxes[kind].append(found)
            else:
                before = asdict(count)
                count.add(scene, found)
                changed = {key: value - before[key] for key, value in asdict(count).items() if value != before[key]}
                if changed.keys() & {"swaps", "new_ids"}:
                    print(f"{kind} {number}: {changed}")
        counts[kind] = asdict(count)
        print(kind, json.dumps(counts[kind]))
    if arguments.detections:
        arguments.detections.write_text(json.dumps(boxes))
    elif arguments.out:
        write_json(arguments.out, counts)


if __name__ == "__main__":
    main()
