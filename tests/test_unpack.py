import bz2
import gzip
import io
import lzma
import random
import shutil
import struct
import tarfile
import zipfile
from collections import namedtuple

import pytest

from kpedge.core.errors import ArchiveError, OutputError
from kpedge.data.unpack import Limits, is_archive, safe_parts, unpack

FILES = {"faces/a.jpg": b"a" * 3000, "faces/deep/er/b.jpg": random.Random(0).randbytes(5000), "label.txt": b""}
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
KINDS = ("zip", *PACKERS)


def tar_bytes(*members, form=tarfile.PAX_FORMAT):
    """A tar archive of (name, content or type, keywords)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content, *more in members:
            info = tarfile.TarInfo(name)
            for key, value in (more[0] if more else {}).items():
                setattr(info, key, value)
            if isinstance(content, bytes) and len(content) != 1:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = content
                tar.addfile(info)
    return stream.getvalue()


def zip_bytes(*members):
    """A zip archive of (name, content, mode)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content, *mode in members:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it stands: the constructor mends it
            info.external_attr = (mode[0] if mode else 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            with pytest.warns(UserWarning, match="Duplicate") if name in pack.namelist() else no_warning():
                pack.writestr(info, content)
    return stream.getvalue()


class no_warning:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def archive(folder, kind, members):
    """An archive file of plain members."""
    data = zip_bytes(*members) if kind == "zip" else PACKERS[kind](tar_bytes(*members))
    return stored(folder, data, f"x.{kind}")


def stored(folder, data, name="x"):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.fixture
def room(tmp_path):
    """A folder to unpack into, with nothing beside it but the archive."""
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_folders_come_out_as_they_went_in(tmp_path, room, kind):
    seen = []
    members = [("faces/", tarfile.DIRTYPE if kind != "zip" else b""), *FILES.items()]
    path = archive(tmp_path, kind, members)
    assert is_archive(path)
    assert unpack(path, room, progress=lambda *state: seen.append(state)) == len(FILES)
    assert {name: (room / name).read_bytes() for name in everything(room)} == FILES
    assert seen[-1] == (8000, 8000 if kind == "zip" else None)
    assert not any(path.stat().st_mode & 0o111 for path in room.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_header_is_read(tmp_path, room, form):
    long = "/".join(["a-folder-with-a-long-name"] * 8) + "/b.jpg"
    assert unpack(stored(tmp_path, tar_bytes((long, b"content"), ("./c.jpg", b"ccc"), form=form)), room) == 2
    assert everything(room) == {long, "c.jpg"}


def test_modes_of_the_archive_are_not_taken_over(tmp_path, room):
    path = stored(tmp_path, tar_bytes(("a", b"content", {"mode": 0o7777}), ("b", tarfile.DIRTYPE, {"mode": 0})))
    unpack(path, room)
    assert (room / "a").stat().st_mode & 0o7111 == 0
    assert (room / "b").stat().st_mode & 0o700 == 0o700


EVIL = [
    ("/etc/evil", "absolute path"),
    ("//server/evil", "absolute path"),
    ("\\evil", "absolute path"),
    ("C:\\evil", "absolute path"),
    ("c:evil", "absolute path"),
    ("../evil", "leaves the folder"),
    ("a/../../evil", "leaves the folder"),
    ("a/b/..", "leaves the folder"),
    ("a\\..\\..\\evil", "leaves the folder"),
    ("./../evil", "leaves the folder"),
    ("a\nb", "control characters"),
    (".", "is no file"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "words"), EVIL, ids=lambda value: repr(value))
def test_no_path_leaves_the_folder(tmp_path, room, kind, name, words):
    path = archive(tmp_path, kind, [("good", b"good"), (name, b"evil")])
    with pytest.raises(ArchiveError, match=words) as caught:
        unpack(path, room)
    assert caught.value.exit_code == 3
    assert "do not use it" in caught.value.advice
    assert {entry.name for entry in tmp_path.iterdir()} == {"room", path.name}
    assert everything(room) <= {"good"}


def test_a_folder_may_not_leave_either(tmp_path, room):
    with pytest.raises(ArchiveError, match="leaves the folder"):
        unpack(stored(tmp_path, tar_bytes(("../beside", tarfile.DIRTYPE))), room)
    assert not (tmp_path / "beside").exists()


def test_safe_names_stay_as_they_are():
    assert safe_parts("x", "./a//b/c d…é.jpg") == ("a", "b", "c d…é.jpg")
    assert safe_parts("x", "a\\b.jpg") == ("a", "b.jpg")
    assert safe_parts("x", "..a/b..") == ("..a", "b..")
    assert safe_parts("x", "./") == ()


@pytest.mark.parametrize(
    "type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
@pytest.mark.parametrize("kind", list(PACKERS))
def test_tar_links_and_devices_are_refused(tmp_path, room, kind, type_):
    members = [("link", type_, {"linkname": "../.."}), ("link/evil", b"evil")]
    with pytest.raises(ArchiveError, match="'link' is a link or device"):
        unpack(stored(tmp_path, PACKERS[kind](tar_bytes(*members))), room)
    assert list(room.iterdir()) == []


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o060666, 0o010666, 0o140666])
def test_zip_links_and_devices_are_refused(tmp_path, room, mode):
    with pytest.raises(ArchiveError, match="'link' is a link or device"):
        unpack(stored(tmp_path, zip_bytes(("link", b"../..", mode), ("link/evil", b"evil"))), room)
    assert list(room.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("second", ["a/b.jpg", "./a/b.jpg", "a\\b.jpg", "a//b.jpg"])
def test_no_file_comes_twice(tmp_path, room, kind, second):
    path = archive(tmp_path, kind, [("a/b.jpg", b"first"), (second, b"second")])
    with pytest.raises(ArchiveError, match="comes twice"):
        unpack(path, room)
    assert (room / "a" / "b.jpg").read_bytes() == b"first"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_no_folder(tmp_path, room, kind):
    with pytest.raises(ArchiveError, match="needs a folder where a file is"):
        unpack(archive(tmp_path, kind, [("a", b"file"), ("a/b", b"below")]), room)
    with pytest.raises(ArchiveError, match="comes twice"):
        unpack(archive(tmp_path, kind, [("c/d", b"below"), ("c", b"file")]), room)


def test_what_lies_there_is_not_overwritten(tmp_path, room):
    (room / "label.txt").write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="comes twice"):
        unpack(archive(tmp_path, "zip", FILES.items()), room)
    assert (room / "label.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_is_stopped(tmp_path, room, kind):
    path = archive(tmp_path, kind, [("a", bytes(3_000_000)), ("b", bytes(3_000_000))])
    assert path.stat().st_size < 10_000
    with pytest.raises(ArchiveError, match="more than 4,000,000 bytes would come out") as caught:
        unpack(path, room, limits=Limits(small=4_000_000))
    assert "do not use it" in caught.value.advice
    assert sum(path.stat().st_size for path in room.iterdir()) <= 4_000_000
    shutil.rmtree(room)
    room.mkdir()
    assert unpack(path, room, limits=Limits(small=6_000_000)) == 2


def test_limits_follow_the_archives_own_size():
    assert Limits().bytes_of(1000) == 256_000_000
    assert Limits().bytes_of(1_000_000_000) == 40_000_000_000
    assert Limits().bytes_of(10**12) == 200_000_000_000


def test_a_zip_that_lies_about_its_sizes_does_not_get_through(tmp_path, room):
    data = bytearray(zip_bytes(("a", bytes(3_000_000))))
    for header, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(header) + place
        assert struct.unpack_from("<I", data, at)[0] == 3_000_000
        struct.pack_into("<I", data, at, 100)
    with pytest.raises(ArchiveError, match="broken or cut off: Bad CRC"):
        unpack(stored(tmp_path, bytes(data)), room, limits=Limits(small=1_000_000))
    assert (room / "a").stat().st_size <= 1_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_files_is_limited(tmp_path, room, kind):
    path = archive(tmp_path, kind, [(f"{number}/", tarfile.DIRTYPE if kind != "zip" else b"") for number in range(11)])
    with pytest.raises(ArchiveError, match="more than 10 files"):
        unpack(path, room, limits=Limits(files=10))
    assert len(list(room.iterdir())) == 10


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, room):
    data = bytearray(tar_bytes(("a" * 300, b"content")))  # begins with an extended header
    assert data[156:157] == b"x"
    data[124:136] = b"%011o\0" % 200_000_000
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:512])
    with pytest.raises(ArchiveError, match="a header of 200,000,000 bytes"):
        unpack(stored(tmp_path, gzip.compress(bytes(data))), room)


def test_a_sparse_tar_is_counted_as_it_comes_out(tmp_path, room):
    head = bytearray(tar_bytes(("a", b"content"), form=tarfile.GNU_FORMAT))[:512]
    head[156:157] = b"S"
    head[124:136] = b"%011o\0" % 0
    head[386:482] = b"%011o\0%011o\0" % (0, 0) + bytes(72)
    head[483:495] = b"%011o\0" % 8_000_000_000
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    with pytest.raises(ArchiveError, match="would come out"):
        unpack(stored(tmp_path, bytes(head) + bytes(1024)), room, limits=Limits(small=1_000_000))


def test_an_encrypted_zip_is_named(tmp_path, room):
    data = bytearray(zip_bytes(("secret.jpg", b"x" * 100)))
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + place] |= 1
    with pytest.raises(ArchiveError, match=r"'secret\.jpg' is encrypted") as caught:
        unpack(stored(tmp_path, bytes(data)), room)
    assert "with its password" in caught.value.advice


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_an_archive_that_is_cut_off_is_told(tmp_path, room, kind, kept):
    path = archive(tmp_path, kind, [("a", random.Random(1).randbytes(400_000)), ("b", b"b" * 20_000)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ArchiveError, match="broken or cut off") as caught:
        unpack(path, room)
    assert caught.value.advice == "download it again"


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_with_a_wrong_byte_is_told(tmp_path, room, kind):
    path = archive(tmp_path, kind, [("a", random.Random(2).randbytes(100_000))])
    data = bytearray(path.read_bytes())
    data[50_000] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ArchiveError, match="broken or cut off"):
        unpack(path, room)


@pytest.mark.parametrize("data", [b"", b"x,y\n1,2\n", b"<html>", b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_what_is_no_archive_is_told(tmp_path, room, data):
    path = stored(tmp_path, data)
    assert not is_archive(path)
    with pytest.raises(ArchiveError, match="neither a zip nor a tar archive"):
        unpack(path, room)


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"PK\x05\x06" + bytes(5), b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00"])
def test_what_only_begins_like_an_archive_is_told(tmp_path, room, data):
    with pytest.raises(ArchiveError, match="broken or cut off"):
        unpack(stored(tmp_path, data), room)


def test_a_compressed_file_that_is_no_tar_is_told(tmp_path, room):
    with pytest.raises(ArchiveError, match="broken or cut off"):
        unpack(stored(tmp_path, gzip.compress(b"x,y\n" * 1000)), room)


def test_an_empty_zip_gives_nothing(tmp_path, room):
    assert unpack(stored(tmp_path, zip_bytes()), room) == 0


def test_a_disk_without_room_is_told(tmp_path, room, monkeypatch):
    path = archive(tmp_path, "zip", [("a", bytes(500_000))])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(64_400_000))
    with pytest.raises(OutputError, match="500,000 bytes are to be unpacked"):
        unpack(path, room)
    with pytest.raises(ArchiveError, match="more than 400,000 bytes would come out"):  # a larger disk would not help
        unpack(path, room, limits=Limits(small=400_000))


def test_bytes_at_random_raise_nothing_unforeseen(tmp_path):
    rng = random.Random(7)
    for kind in KINDS:
        good = archive(tmp_path, kind, FILES.items()).read_bytes()
        for number in range(25):
            data = bytearray(good)
            for _ in range(rng.randint(1, 12)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            room = tmp_path / f"{kind}{number}"
            room.mkdir()
            try:
                unpack(stored(tmp_path, bytes(data)), room, limits=Limits(small=1_000_000))
            except (ArchiveError, OutputError):
                continue
    assert {entry.name for entry in tmp_path.iterdir() if entry.is_file()} == {"x", *(f"x.{kind}" for kind in KINDS)}
