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
from kpedge.data.unpack import is_archive, unpack

FILES = {"faces/a.jpg": b"a" * 3000, "faces/deep/er/b c…é.jpg": random.Random(0).randbytes(5000), "label.txt": b""}
PACKERS = {"tar": bytes, "tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
KINDS = ("zip", *PACKERS)


def tar_bytes(*members, form=tarfile.PAX_FORMAT):
    """A tar archive of (name, content or type of member, attributes)."""
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
    """A zip archive of (name, content)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it stands: the constructor corrects it
            info.compress_type = zipfile.ZIP_DEFLATED
            pack.writestr(info, content)
    return stream.getvalue()


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
    """A folder to unpack into, with nothing next to it but the archive."""
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


EVIL = ["/etc/evil", "//server/evil", "\\evil", "C:\\evil", "c:evil", "../evil", "a/../../evil", "a/b/..", "./../evil"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*EVIL, "a\\..\\..\\evil"])
def test_no_path_leaves_the_folder(tmp_path, room, kind, name):
    path = archive(tmp_path, kind, [("good", b"good"), (name, b"evil")])
    with pytest.raises(ArchiveError, match="leaves the folder") as caught:
        unpack(path, room)
    assert caught.value.exit_code == 3
    assert "do not use it" in caught.value.advice
    assert {entry.name for entry in tmp_path.iterdir()} == {"room", path.name}
    assert everything(room) <= {"good"}


@pytest.mark.parametrize("kind", [*"12346"])  # hard link, symbolic link, devices, pipe
@pytest.mark.parametrize("target", ["../..", "/etc", "good"])
def test_links_and_devices_are_refused(tmp_path, room, kind, target):
    members = [("good", b"good"), ("link", kind.encode(), {"linkname": target}), ("link/evil", b"evil")]
    with pytest.raises(ArchiveError, match="link"):
        unpack(stored(tmp_path, tar_bytes(*members)), room)
    assert everything(room) == {"good"}


def test_a_link_in_a_zip_comes_out_as_a_plain_file(tmp_path, room):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as pack:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        pack.writestr(info, "/etc")
    unpack(stored(tmp_path, stream.getvalue()), room)
    assert not (room / "link").is_symlink()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_nothing_is_overwritten(tmp_path, room, kind):
    (room / "label.txt").write_bytes(b"mine")
    for second in ("a/b.jpg", "./a/b.jpg", "label.txt"):
        with pytest.raises(ArchiveError, match="is there already"):
            unpack(archive(tmp_path, kind, [("a/b.jpg", b"first"), (second, b"second")]), room)
        assert (room / "a" / "b.jpg").read_bytes() == b"first"
        shutil.rmtree(room / "a")
    assert (room / "label.txt").read_bytes() == b"mine"
    with pytest.raises((ArchiveError, OutputError)):
        unpack(archive(tmp_path, kind, [("a", b"file"), ("a/b", b"below")]), room)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_stopped(tmp_path, room, kind):
    path = archive(tmp_path, kind, [("a", bytes(3_000_000)), ("b", bytes(3_000_000))])
    with pytest.raises(ArchiveError, match="4,000,000 bytes") as caught:
        unpack(path, room, max_bytes=4_000_000)
    assert "do not use it" in caught.value.advice
    assert sum(path.stat().st_size for path in room.iterdir()) <= 4_000_000
    (tmp_path / "other").mkdir()
    with pytest.raises(ArchiveError, match="1 files"):
        unpack(path, tmp_path / "other", max_files=1)


def test_a_zip_that_lies_about_its_sizes_does_not_get_through(tmp_path, room):
    data = bytearray(zip_bytes(("a", bytes(3_000_000))))
    for header, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(header) + place, 100)
    with pytest.raises(ArchiveError, match="broken"):
        unpack(stored(tmp_path, bytes(data)), room, max_bytes=1_000_000)
    assert (room / "a").stat().st_size <= 1_000_000


def with_checksum(head):
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head)


def test_headers_that_would_fill_memory_or_disk_are_refused(tmp_path, room):
    data = bytearray(tar_bytes(("a" * 300, b"content")))  # begins with an extended header
    assert data[156:157] == b"x"
    data[124:136] = b"%011o\0" % 200_000_000
    with pytest.raises(ArchiveError, match="header of 200,000,000 bytes"):
        unpack(stored(tmp_path, gzip.compress(with_checksum(data))), room)
    sparse = bytearray(tar_bytes(("a", b"content"), form=tarfile.GNU_FORMAT))[:512]
    sparse[156:157] = b"S"
    sparse[483:495] = b"%011o\0" % 8_000_000_000
    with pytest.raises(ArchiveError, match="sparse"):
        unpack(stored(tmp_path, with_checksum(sparse) + bytes(1024)), room)


def test_an_encrypted_zip_is_named(tmp_path, room):
    data = bytearray(zip_bytes(("secret.jpg", b"x" * 100)))
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + place] |= 1
    with pytest.raises(ArchiveError, match="is encrypted"):
        unpack(stored(tmp_path, bytes(data)), room)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_an_archive_that_is_cut_off_is_named(tmp_path, room, kind, kept):
    path = archive(tmp_path, kind, [("a", random.Random(1).randbytes(400_000)), ("b", b"b" * 20_000)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ArchiveError, match="broken, cut off"):
        unpack(path, room)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_wrong_byte_is_noticed(tmp_path, room, kind):
    path = archive(tmp_path, kind, [("a", random.Random(2).randbytes(100_000))])
    data = bytearray(path.read_bytes())
    data[50_000] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ArchiveError, match="broken, cut off"):
        unpack(path, room)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "not an archive"), (b"x,y\n1,2\n", "not an archive"), (b"\n<!DOCTYPE html><p>log in", "a web page")]
    + [
        (start, "broken")
        for start in (b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", gzip.compress(b"x" * 9, mtime=0))
    ]
    + [(zip_bytes(), "is empty"), (tar_bytes(), "not an archive")],
)
def test_what_is_not_an_archive_or_holds_nothing_is_an_error(tmp_path, room, data, words):
    with pytest.raises(ArchiveError, match=words) as caught:
        unpack(stored(tmp_path, data), room)
    assert caught.value.exit_code == 3


def test_a_disk_without_room_is_noticed_before(tmp_path, room, monkeypatch):
    path = archive(tmp_path, "zip", [("a", bytes(500_000))])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(64_400_000))
    with pytest.raises(OutputError, match="500,000 bytes"):
        unpack(path, room)
