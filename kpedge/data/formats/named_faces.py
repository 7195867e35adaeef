"""Faces whose points have names, as labelling tools write them: boxes and points that belong together become a face,
and the names a scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kpedge.core.boxes import HEAD, POINTS
from kpedge.core.geometry import Box
from kpedge.core.keypoints import BUILT_IN, FACES21, scheme_named
from kpedge.data.formats.reader import LabelReader, points_box
from kpedge.data.formats.schemes import known_scheme, numeric_order, scheme_of_points
from kpedge.data.labels import LabelRow, Labels
from kpedge.data.rows import RowError, check_points, parse_numbers, where_in

NamedPoint = tuple[float, float, bool]  # x, y, and whether it is visible


@dataclass(slots=True)
class Shape:
    """Something that was drawn in a photo: a box, points, or both."""

    name: str = ""  # of the object; "" for points by themselves
    box: Box | None = None  # (4,), or None
    points: dict[str, NamedPoint] = field(default_factory=dict)  # name -> point
    group: Any = None  # shapes with the same one are a face; None if the tool does not say
    place: tuple[int, str] = (1, "")  # number and words, for messages

    def take(self, other: Shape) -> None:
        """Make another shape part of this one.

        Raises:
            RowError: a point of the same name is there already.
        """
        self.points = named_points([*self.points.items(), *other.points.items()])
        self.name = self.name or other.name
        self.box = other.box if self.box is None else self.box

    def holds(self, other: Shape) -> bool:
        """Whether the middle of another's points lies in this box."""
        middle = np.mean([point[:2] for point in other.points.values()], axis=0)
        return self.box is not None and bool((middle >= self.box[:2]).all() and (middle <= self.box[2:]).all())


def named_points(points: Iterable[tuple[str, NamedPoint]]) -> dict[str, NamedPoint]:
    """The points of a face by their names.

    Raises:
        RowError: two have the same name.
    """
    named: dict[str, NamedPoint] = {}
    for name, point in points:
        if name in named:
            raise RowError("point twice", f"a face has two points called {name}")
        named[name] = point
    return named


def check_upright(rotation: Any, what: str = "box") -> None:
    """Stop at a box, or a photo, that was rotated when it was labelled.

    Raises:
        RowError: it was.
    """
    degrees = parse_numbers([rotation or "0"], 1)[0]
    if degrees % 360:
        raise RowError("rotated", f"a {what} rotated by {degrees:g} degrees is not read: set the rotation to 0")


def _area(shape: Shape) -> float:
    return float(np.prod(shape.box[2:] - shape.box[:2])) if shape.box is not None else np.inf


def group_shapes(shapes: Iterable[Shape]) -> list[Shape]:
    """The faces of a photo: shapes of a group; points in the smallest box around them; other points are one face."""
    groups: dict[str, Shape] = {}
    faces: list[Shape] = []
    loose: list[Shape] = []
    for shape in shapes:
        group = str(shape.group)  # a file may state anything
        if shape.group is not None and group in groups:
            groups[group].take(shape)
        elif shape.group is not None:
            groups[group] = shape
            faces.append(shape)
        else:
            (loose if shape.box is None else faces).append(shape)
    single: Shape | None = None
    for shape in loose:
        around = sorted((face for face in faces if face.holds(shape)), key=_area)
        boxes = [face for face in faces if face.box is not None]
        if around:
            around[0].take(shape)
        elif len(boxes) == 1 and not shape.name:
            boxes[0].take(shape)
        elif shape.name:
            faces.append(shape)
        elif single is None:
            single = shape
            faces.append(single)
        else:
            single.take(shape)
    return faces


class NamedFaces:
    """Collects faces with named points; `labels` finds their scheme."""

    def __init__(self, reader: LabelReader) -> None:
        self._reader = reader
        self._faces: list[tuple[str, str, Shape]] = []

    def add_each(
        self,
        photo: str,
        file: str,
        drawn: Iterable[Any],
        parse: Callable[[Any, tuple[int, str]], Shape | None],
        noun: str,
    ) -> None:
        """Parse what was drawn in a photo, and add its faces. `parse` makes a shape of one thing, its number and its
        place in words, which begin with `noun`; None for a kind that is not read.
        """
        shapes = []
        for number, one in enumerate(drawn, 1):
            place = f"{noun} {number}"
            try:
                shape = parse(one, (number, place))
            except RowError as error:
                self._reader.problem(error, where_in(file, place), photo)
                continue
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                what = f"not a shape: it has no {error}" if isinstance(error, KeyError) else f"not a shape: {error!r}"
                self._reader.problem(RowError("form", what), where_in(file, place), photo)
                continue
            self._reader.dropped["shapes of other kinds"] += shape is None
            shapes += [shape] if shape else []
        self.add(photo, file, shapes)

    def add(self, photo: str, file: str, shapes: Iterable[Shape]) -> None:
        """Add what was drawn in a photo; faces whose name is not asked for are left out."""
        with self._reader.problems_in(file, photo=photo):
            faces = group_shapes(shapes)
            self._faces += [(photo, file, face) for face in faces if self._reader.wants(face.name or "face")]

    def labels(
        self, name: str = "", *, by_position: bool = False, is_test: Callable[[LabelRow], bool] | None = None
    ) -> Labels:
        """All faces, in the scheme of their names, which is called `name` if none that is known fits. With
        `by_position` names that are numbers are the positions of a known scheme with as many points.
        """
        reader = self._reader
        names = list(dict.fromkeys(point for _, _, face in self._faces for point in face.points))
        known = next((one for one in map(scheme_named, BUILT_IN) if set(one.points) == set(names)), None)
        names = list(known.points) if known else [names[place] for place in numeric_order(names)]
        scheme = reader.scheme or FACES21
        if names:
            own = known_scheme(reader.root, len(names), reader.scheme)
            if by_position and own and all(point.isdecimal() for point in names):
                scheme = own
            else:
                scheme, remarks = scheme_of_points(reader.root, name, tuple(names), None)
                reader.remarks += remarks
        for photo, file, face in self._faces:
            number, words = face.place
            with reader.problems_in(file, words or number, photo):
                row = _row(face.points, names, len(scheme))
                box = points_box(row[0], scheme) if face.box is None else face.box
                reader.rows.append(LabelRow(photo, box, row[0], file, number, row[1], words))
        test = reader.test_photos(is_test) if is_test else None
        return reader.labels(scheme, boxes_only=not names, convention=POINTS if names else HEAD, test=test)


def _row(points: Mapping[str, NamedPoint], names: list[str], count: int) -> tuple[Any, Any]:
    """Points (K, 2), NaN where there is none of the name, and which are visible, None if all are."""
    placed, visible = np.full((count, 2), np.nan), np.ones(count, dtype=bool)
    for index, name in enumerate(names):
        if name in points:
            *placed[index], visible[index] = points[name]
    return check_points(placed), None if visible.all() else visible
