"""What `kpedge predict` reads beside photos in files: videos, addresses, standard input, HEIC."""

import csv
import http.server
import io
import json
import os
import socket
import threading
from contextlib import closing
from functools import partial

import cv2
import numpy as np
import pytest
from fake_live import clip_frames, write_video
from fake_web import chunked, trickle

from kpedge.cli.main import main
from kpedge.core.errors import ImageError, KpedgeError, UsageError
from kpedge.core.images import read_image
from kpedge.core.model_zoo import sample_photo
from kpedge.data.formats import read_format
from kpedge.runtime.photos import find_inputs, read_input
from kpedge.runtime.sources import open as sources

PHOTO = sample_photo()
COUNT = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A photo, a video and a text."""
    root = tmp_path_factory.mktemp("inputs")
    write_video(root / "clip.avi", clip_frames(COUNT)[0], 10.0)
    (root / "photo.jpg").write_bytes(PHOTO.read_bytes())
    (root / "page.html").write_text("<p>no image</p>")
    return root


@pytest.fixture(scope="module")
def server(folder):
    """The address of the folder; `Authorization` of the requests is kept."""

    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"127.0.0.1:{running.server_address[1]}", seen
        running.shutdown()
        thread.join()


def numbers(text, **options):
    return [(picture.frame, picture.time_s) for picture in read_input(str(text), **options)]


def test_a_video_gives_every_frame_or_every_nth(folder):
    assert numbers(folder / "clip.avi") == [(number, number / 10) for number in range(COUNT)]
    assert numbers(folder / "clip.avi", every=2) == [(0, 0.0), (2, 0.2), (4, 0.4)]


def test_a_photo_from_a_server_is_the_photo(server):
    address, seen = server
    (picture,) = read_input(f"http://user:pass%40word@{address}/photo.jpg")
    assert np.array_equal(picture.image, read_image(PHOTO))
    assert picture.frame is None
    assert seen[-1] == "Basic dXNlcjpwYXNzQHdvcmQ="
    assert len(numbers(f"http://{address}/clip.avi", every=2)) == 3


@pytest.mark.parametrize("path", ["none.jpg", "page.html"])
def test_an_address_without_an_image_is_named_without_its_password(server, path):
    with pytest.raises(ImageError) as caught:
        list(read_input(f"http://user:secret@{server[0]}/{path}"))
    assert path in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_an_address_that_does_not_answer_in_http_is_an_image_error(answer, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def reply():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(ImageError, match="cannot be read"):
            list(read_input(f"http://127.0.0.1:{listener.getsockname()[1]}/a.jpg"))
        thread.join()
    with pytest.raises(ImageError, match="cannot be read"):
        list(read_input("http://a b/c.jpg"))


@pytest.mark.parametrize("step", [trickle, chunked(PHOTO.read_bytes(), whole=False)])
def test_a_photo_that_does_not_arrive_is_an_image_error(step, web, monkeypatch):
    monkeypatch.setattr("kpedge.runtime.photos.ANSWER_S", 0.3)
    with pytest.raises(ImageError, match="cannot be read"):
        list(read_input(web.at("/a.jpg", step)))


def test_standard_input_holds_an_image_or_a_video(folder):
    (picture,) = read_input("-", stdin=io.BytesIO(PHOTO.read_bytes()))
    assert np.array_equal(picture.image, read_image(PHOTO))
    av = pytest.importorskip("av")
    assert len(numbers("-", stdin=io.BytesIO((folder / "clip.avi").read_bytes()))) == COUNT
    with av.open(str(folder / "clip.mp4"), "w") as output:  # its index is at its end
        stream = output.add_stream("mpeg4", rate=10)
        stream.height, stream.width = clip_frames(1)[0][0].shape[:2]
        for image in clip_frames(COUNT)[0]:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        output.mux(stream.encode())
    assert len(numbers("-", stdin=io.BytesIO((folder / "clip.mp4").read_bytes()))) == COUNT
    jpegs = b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in clip_frames(COUNT)[0])
    assert len(numbers("-", stdin=io.BytesIO(jpegs), every=2)) == 3
    with pytest.raises(ImageError, match="stdin: empty") as caught:
        list(read_input("-", stdin=io.BytesIO(b"")))
    assert "kpedge predict -" in caught.value.advice


def test_folders_that_may_not_be_read_are_named(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "a" / "closed"):
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "a" / "label.txt").write_text("photo.jpg 1 2 30 40" + " 5" * 42)
    (tmp_path / "a" / "closed").chmod(0)
    try:
        if os.access(tmp_path / "a" / "closed", os.R_OK):
            pytest.skip("root may read all")
        assert find_inputs([str(tmp_path / "a")], None)[1] == [tmp_path / "a" / "closed"]
        assert f"{tmp_path / 'a' / 'closed'}: not read: permission denied" in read_format(tmp_path / "a").remarks
        with pytest.raises(KpedgeError) as caught:
            find_inputs([str(tmp_path / "a" / "closed")], None)
        assert "permission denied" in caught.value.advice
    finally:
        (tmp_path / "a" / "closed").chmod(0o700)


def test_a_live_stream_has_no_end(monkeypatch):
    class Live:
        name, live, closed = "rtsp://camera", True, False

        def close(self):
            self.closed = True

    source = Live()
    monkeypatch.setattr("kpedge.runtime.sources.open.open_source", lambda *_, **__: source)
    with pytest.raises(UsageError, match="no end"):
        list(read_input("rtsp://camera"))
    assert source.closed


def test_heic_is_read_where_its_library_is(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    image = read_image(PHOTO)
    path = tmp_path / "photo.HEIC"
    heif.from_bytes("RGB", image.shape[1::-1], np.ascontiguousarray(image[..., ::-1]).tobytes()).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - image).mean() < 4
    assert find_inputs([str(tmp_path)], None) == ([str(path)], [])
    with closing(sources.open_source(str(tmp_path))) as frames:
        assert len(list(frames)) == 1
    assert main(["predict", str(path), "--out", str(tmp_path / "annotated")]) == 0
    assert [one.name for one in (tmp_path / "annotated").glob("[!.]*")] == ["photo.png"]
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="HEIC") as caught:
        read_image(path)
    assert "'.[heic]'" in caught.value.advice


def test_all_of_it_from_the_command_line(folder, tmp_path, capsys):
    table = tmp_path / "faces.csv"
    command = ["predict", str(folder / "photo.jpg"), str(folder / "clip.avi"), "--every", "4", "--features"]
    assert main([*command, "--csv", str(table), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    documents = [json.loads(line) for line in printed.out.splitlines()]
    assert f"kpedge webcam {folder / 'clip.avi'}" in printed.err
    assert [document.get("frame") for document in documents] == [None, 0, 4]
    assert all(document["faces"][0]["features"]["mouth_width"] for document in documents)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["", "0", "4"]
    assert float(rows[0]["nose_tip_x"]) == documents[0]["faces"][0]["keypoints"][18][0]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.jpg")) == ["0000.jpg", "0004.jpg", "photo.jpg"]
    assert main([*command, "--csv", str(table), "--json"]) == 1
    assert "faces.csv exists already" in capsys.readouterr().err
    assert main([*command[:2], "--csv", str(tmp_path / "plain.csv"), "--json"]) == 0
    assert "pose" not in json.loads(capsys.readouterr().out)["faces"][0], "a table changes no document"
    assert main(["predict", str(folder / "clip.avi"), "--out", str(tmp_path / "video")]) == 0
    assert f"5 images, 5 faces; annotated copies: {tmp_path / 'video' / 'clip'}\n" in capsys.readouterr().err


def test_poses_come_where_they_are_asked_for(capsys):
    assert main(["predict", str(PHOTO), "--json", "--pose"]) == 0
    assert main(["predict", str(PHOTO), "--json"]) == 0
    with_pose, without = (json.loads(line)["faces"][0] for line in capsys.readouterr().out.splitlines())
    assert with_pose.pop("pose").keys() == {"yaw", "pitch", "roll"}
    assert with_pose == without
