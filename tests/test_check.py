import numpy as np
from conftest import COUNT, make_photos

from kpedge.core.images import read_image
from kpedge.core.keypoints import FACES21
from kpedge.data.check import check, label_preview


def test_a_clean_folder_has_no_problems(photos):
    report, labels = check(photos, FACES21)
    assert (report.rows, report.photos, report.faces, report.label_files) == (COUNT, COUNT, COUNT, 1)
    assert report.problems == ()
    assert report.faces_a_photo == {"1": COUNT, "2": 0, "3-4": 0, "5-9": 0, "10+": 0}
    assert 40 < report.box_px["min"] < report.box_px["median"] < report.box_px["max"] < 110
    assert -24 < report.roll_deg["p5"] < 0 < report.roll_deg["p95"] < 24
    assert len(labels.rows) == COUNT


def test_everything_that_is_wrong_is_found(tmp_path):
    folder = make_photos(tmp_path, 6, faces=2)
    rows = (folder / "label.txt").read_text().splitlines()
    (folder / "000.png").unlink()
    (folder / "001.png").write_bytes(b"")
    (folder / "extra.jpg").write_bytes(b"")
    (folder / "twin.png").write_bytes((folder / "005.png").read_bytes())
    rows.append(rows[8])  # the same face once more
    rows.append("003.png 900 900 950 950 " + "920 " * 42)
    rows.append("003.png 1 2 3")
    rows.append("003.png 9 9 9 12 " + "1 " * 42)
    rows.append("003.png 9 9 19 x " + "1 " * 42)
    rows.append("twin.png -20 -20 30 30 " + "-3 " * 42)
    (folder / "label.txt").write_text("\n".join(rows) + "\n")
    report, _ = check(folder, FACES21)
    found = {(problem.kind, problem.where) for problem in report.problems}
    assert found == {
        ("missing photo", "label.txt:1"),
        ("unreadable photo", "label.txt:3"),
        ("box outside photo", "label.txt:14"),
        ("columns", "label.txt:15"),
        ("box without area", "label.txt:16"),
        ("not a number", "label.txt:17"),
    }
    assert report.rows == 18
    assert report.faces == 10
    remarks = {(remark.kind, remark.where) for remark in report.remarks}
    assert ("duplicate", "label.txt:13") in remarks
    assert ("point beyond photo", "label.txt:18") in remarks
    assert report.notes["faces labelled twice"] == 1
    assert report.notes["photos with the same image as another"] == 1
    assert report.notes["photos without a label"] == 1
    assert report.notes["faces with a point beyond the photo"] >= 1
    assert report.notes["faces with a negative coordinate"] >= 1
    assert report.to_dict()["problem_counts"]["columns"] == 1


def test_the_sheet_shows_every_point(photos):
    _, labels = check(photos, FACES21)
    preview = label_preview(labels, count=5, columns=3, side=200)
    assert preview.shape == (6 + 2 * 222, 6 + 3 * 206, 3)
    assert len(np.unique(preview.reshape(-1, 3), axis=0)) > 500
    assert (preview[230:420, 420:620] == 32).all(), "the sixth place stays empty"
    assert read_image(photos / labels.rows[0].photo).shape == (240, 320, 3)
