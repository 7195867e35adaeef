import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kpedge.core.errors import UsageError
from kpedge.core.keypoints import scheme_named
from kpedge.data.catalogue import PublicSet, catalogue, parse_checksum, public_set
from kpedge.data.download import check_url
from kpedge.data.fetch import file_name
from kpedge.data.formats import FORMATS

SETS = list(catalogue().values())
NAMED = pytest.mark.parametrize("one", SETS, ids=lambda one: one.name)


def test_the_sets_that_people_ask_for_are_there():
    asked = "300w wflw kaggle15 mtfl aflw cofw helen lfpw ibug wider-face celeba menpo coco-wholebody youtube68 fddb"
    more = "maskedface-net ffhq face-mask-detection lapa jd-landmark lfw"
    assert set(f"{asked} {more}".split()) <= set(catalogue())


@NAMED
def test_a_set_says_what_it_is_and_where_to_get_it(one):
    assert one.title
    assert one.terms
    assert "\n" not in one.terms + one.note + one.title
    check_url(one.page)
    assert one.photos is None or one.photos > 0
    assert one.points >= 0


@NAMED
def test_kpedge_reads_what_it_claims_to_read(one):
    if one.label_format:
        assert one.label_format in FORMATS
    if one.scheme:
        assert one.label_format
        assert len(scheme_named(one.scheme)) == one.points
    command = shlex.split(one.next_step(Path("a folder")))
    assert command[0] == "kpedge"
    assert command[2 + (command[1] == "data")].startswith("a folder")


@NAMED
def test_files_can_be_fetched_and_checked(one):
    names = [file.name for file in one.files]
    assert len(set(names)) == len(names)
    for file in one.files:
        check_url(file.url)
        assert file_name(f"http://host/{file.name}") == file.name
        assert (file.checksum is None) == (file.checksum_from == "")
        assert file.size is None or file.checksum
        # Without a checksum, at least nobody between may change it; MTFL's own server has no https.
        assert file.checksum or urlsplit(file.url).scheme == "https" or one.name == "mtfl"
    assert one.verified or len(one.files) <= 1, "--sha256 is for one file"


def test_a_set_says_how_it_is_fetched():
    assert public_set("lfw").fetch == "yes"
    assert public_set("youtube68").fetch == "with --sha256 or --unverified"
    assert public_set("aflw").fetch == "by hand"
    document = public_set("lfw").to_dict()
    assert document["fetch"] == "yes"
    assert document["format"] == ""
    assert document["files"][0]["checksum"].startswith("sha256:")
    with pytest.raises(UsageError, match="no public set is called 'lwf'"):
        public_set("lwf")


def test_the_next_step_fits_the_set():
    one = PublicSet("x", "X", "http://x/", "none", label_format="pts", scheme="ibug68", folder="deep/er")
    assert one.next_step(Path("out")) == "kpedge data check out/deep/er --format pts --scheme ibug68"
    assert PublicSet("x", "X", "http://x/", "none").next_step(Path("my out")) == "kpedge predict 'my out'"
    assert public_set("flowers102").next_step(Path("f")) == "kpedge data check f/jpg --format background"


def test_checksums_are_read_as_people_paste_them():
    assert parse_checksum("md5", "  D41D8CD98F00B204E9800998ECF8427E\n") == "md5:d41d8cd98f00b204e9800998ecf8427e"
    for text in ("d41d8cd98f00b204e9800998ecf8427e", "g" * 64, ""):
        with pytest.raises(UsageError, match="sha256"):
            parse_checksum("sha256", text)
