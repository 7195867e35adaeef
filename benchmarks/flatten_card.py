"""Flatten the chain of starts in a checkpoint's card: `trim.py IN OUT DONE…`, epochs done of each phase, the newest first."""

import sys
from pathlib import Path
from dataclasses import replace
from kpedge.models.checkpoint import load_checkpoint, save_checkpoint

c = load_checkpoint(Path(sys.argv[1]))
t = dict(c.card.training)
done = list(map(int, sys.argv[3:]))
phases = []
seen = set()
sets = []
s = t
number = 0
while s:
    for one in s.get("sets", []):
        if one["source_sha256"] not in seen:
            seen.add(one["source_sha256"])
            sets.append(one)
    r = s.get("recipe", {})
    if number:
        phases.append(
            {
                "weights_sha256": s["weights_sha256"],
                "sets": [x["name"] for x in s.get("sets", [])],
                **{
                    k: r.get(k)
                    for k in ("epochs", "lr", "schedule", "others", "negatives", "roll", "roll_peak")
                    if k in r
                },
                **({"between": s["between"]} if "between" in s else {}),
                **({"epochs_done": done[number]} if number < len(done) else {}),
            }
        )
    s = s.get("start")
    number += 1
t["sets"] = sets
t["epochs_done"] = done[0]
t["start"] = {"earlier": phases}
save_checkpoint(Path(sys.argv[2]), replace(c, card=replace(c.card, training=t)))
print(
    len(c.card.to_json()), [(p["weights_sha256"][:8], p.get("epochs_done")) for p in phases], [x["name"] for x in sets]
)
