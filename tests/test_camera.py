"""Cameras as sources of frames, with capture objects that the tests feed."""

import grp
import os
import signal
import threading
from types import SimpleNamespace

import cv2
import pytest
from fake_capture import BROKEN, END, FAIL, WAIT_S, Computer, FakeCamera, HangingCamera, picture, shade

from kpedge.core.errors import SourceError, UsageError
from kpedge.runtime.sources import devices, live
from kpedge.runtime.sources.camera import CameraSystem
from kpedge.runtime.sources.devices import find_camera, format_cameras, list_cameras
from kpedge.runtime.sources.live import FAILURES, HANGING, LiveSource, RetryPolicy
from kpedge.runtime.sources.open import open_source
from kpedge.runtime.sources.opencv import CaptureReader

MJPG = float(cv2.VideoWriter.fourcc(*"MJPG"))


@pytest.fixture(autouse=True)
def _interruptible(monkeypatch):
    """A camera that works gives a frame soon, and the thread that reads it ends; these wait for the test."""
    monkeypatch.setattr(CaptureReader, "interrupt", lambda self: getattr(self._capture, "interrupt", lambda: None)())


@pytest.fixture
def computer(tmp_path):
    found = Computer(tmp_path)
    found.plug(0, "Integrated Camera: Integrated C")
    found.plug(1, "Integrated Camera: Integrated C", node=1)
    found.plug(10, "HD Pro Webcam C920", node=1)
    found.plug(2, "HD Pro Webcam C920")
    return found


# Which cameras there are


def test_cameras_are_listed_by_their_numbers(computer):
    cameras = list_cameras(computer.sys, computer.dev)
    assert [(camera.index, camera.name, camera.node) for camera in cameras] == [
        (0, "Integrated Camera: Integrated C", 0),
        (1, "Integrated Camera: Integrated C", 1),
        (2, "HD Pro Webcam C920", 0),
        (10, "HD Pro Webcam C920", 1),
    ]
    assert all(camera.path == computer.dev / f"video{camera.index}" for camera in cameras)
    assert format_cameras(cameras[2:3]) == "cameras found: 2 (HD Pro Webcam C920)"
    (computer.dev / "video2").unlink()
    assert [camera.index for camera in list_cameras(computer.sys, computer.dev)] == [0, 1, 10]


def test_a_camera_is_found_by_a_part_of_its_name(computer):
    cameras = list_cameras(computer.sys, computer.dev)
    assert find_camera("c920", cameras).index == 2
    assert find_camera("Integrated Camera: Integrated C", cameras).index == 0
    assert find_camera("nothing", cameras) is None
    assert find_camera(" ", cameras) is None
    with pytest.raises(UsageError, match="more than one camera") as caught:
        find_camera("am", cameras)
    assert "0 (Integrated" in caught.value.advice
    assert "2 (HD Pro" in caught.value.advice


@pytest.mark.parametrize("text", ["2", "02", "c920", "{dev}/video2", "{dev}/by-id"])
def test_a_camera_is_opened_by_index_name_or_path(computer, text):
    (computer.dev / "by-id").symlink_to(computer.dev / "video2")
    text = text.format(dev=computer.dev)
    source = computer.open(text, FakeCamera(picture(5)))
    assert computer.opened[0].resolve() == computer.dev / "video2"
    assert source.live
    assert source.name == text
    assert next(iter(source)).number == 0
    source.close()


# Asking and being granted


def test_what_is_asked_of_a_camera_is_asked_in_the_order_that_counts(computer, said):
    camera = FakeCamera(picture(5, 640, 480))
    source = computer.open("0", camera, said=said, size=(640, 480), rate=30, pixel_format="MJPG")
    assert camera.asked == [
        (cv2.CAP_PROP_FOURCC, MJPG),
        (cv2.CAP_PROP_FRAME_WIDTH, 640),
        (cv2.CAP_PROP_FRAME_HEIGHT, 480),
        (cv2.CAP_PROP_FPS, 30),
    ]
    assert source.description == "640x480 at 30 fps, MJPG"
    assert source.rate == 30
    assert said == []
    source.close()


def test_what_was_not_granted_is_told_once(computer, said):
    fixed = {
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FPS: 15,
        cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV")),
    }
    cameras = [FakeCamera(picture(5, 640, 480), properties=fixed), FakeCamera(picture(6), properties=fixed)]
    source = computer.open("0", *cameras, said=said, size=(1280, 720), rate=30, pixel_format="MJPG")
    assert said[0] == ("camera 0: gives 640x480 instead of 1280x720, 15 fps instead of 30, YUYV instead of MJPG")
    assert source.description == "640x480 at 15 fps, YUYV"
    assert shade(next(iter(source)).image) == 5
    cameras[0].items.put(END)
    assert shade(next(iter(source)).image) == 6
    assert len([text for text in said if "instead" in text]) == 1
    source.close()


# What can go wrong when it is opened


def test_a_camera_that_is_not_there_names_those_that_are(computer):
    with pytest.raises(SourceError, match=r"camera 7: there is no .*video7") as caught:
        computer.open("7", FakeCamera())
    assert "2 (HD Pro Webcam C920)" in caught.value.advice
    with pytest.raises(SourceError, match="no camera with this in its name"):
        computer.open("logitech", FakeCamera())


@pytest.mark.parametrize(("group", "advice"), [("video", "usermod -aG video $USER"), ("root", "ask the administrator")])
def test_a_camera_without_permission_names_the_group_to_join(computer, monkeypatch, group, advice):
    monkeypatch.setattr(devices.os, "access", lambda path, mode: False)
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name=group))
    (computer.dev / "video0").chmod(0o660)
    with pytest.raises(SourceError, match=r"camera 0: no permission to use .*video0") as caught:
        computer.open("0", FakeCamera())
    assert advice in caught.value.advice
    assert computer.opened == []


def test_a_busy_camera_says_so(computer):
    camera = FakeCamera(opens=False)
    with pytest.raises(SourceError, match=r"camera c920: .*video2 cannot be opened") as caught:
        computer.open("c920", camera)
    assert "another program" in caught.value.advice
    assert camera.released


@pytest.mark.parametrize("items", [[END], [FAIL] * FAILURES])
def test_a_camera_that_gives_no_frame_says_so(computer, items):
    camera = FakeCamera(*items)
    with pytest.raises(SourceError, match="camera 0: opens, but gives no frame") as caught:
        computer.open("0", camera)
    assert "another program" in caught.value.advice
    assert camera.released


def test_a_camera_that_does_not_answer_is_given_up(computer, monkeypatch):
    monkeypatch.setattr(live, "CLOSE_S", 0.01)
    camera = HangingCamera()
    with pytest.raises(SourceError, match="camera 0: does not answer"):
        computer.open("0", camera, retry=RetryPolicy(open_s=0.05, stall_s=0.05))
    camera.items.put(END)


def test_without_a_folder_of_devices_a_camera_is_opened_by_its_index(computer, tmp_path):
    """As on Windows and macOS."""
    computer.dev = computer.sys = tmp_path / "none"
    source = computer.open("1", FakeCamera(picture(3)))
    assert computer.opened == [1]
    source.close()
    with pytest.raises(SourceError, match="camera 1: cannot be opened"):
        computer.open("1", FakeCamera(opens=False))


# While it runs


def test_only_the_newest_frame_is_kept_and_all_are_counted(computer):
    camera, given = FakeCamera(picture(0)), threading.Event()
    source = computer.open("0", camera)
    frames = iter(source)
    first = next(frames)
    for number in range(1, 20):
        camera.items.put(picture(number))
    camera.items.put(given.set)
    assert given.wait(WAIT_S)
    newest = next(frames)
    assert (first.number, first.time_s) == (0, 0.0)
    assert (newest.number, shade(newest.image)) == (19, 19)
    assert newest.time_s > 0
    camera.items.put(picture(20))
    assert next(frames).number == 20
    source.close()
    assert camera.released


def test_a_camera_that_is_unplugged_and_comes_back_is_told_of_once(computer, said):
    gone = FakeCamera(opens=False)
    cameras = [FakeCamera(picture(1)), *[gone] * 30, FakeCamera(picture(2, 32, 24))]
    source = computer.open("0", *cameras, said=said)
    frames = iter(source)
    assert shade(next(frames).image) == 1
    cameras[0].items.put(END)
    back = next(frames)
    assert (back.number, back.image.shape) == (1, (24, 32, 3))
    source.close()
    assert said == ["camera 0: lost, waiting for it", "camera 0: back, 32x24"]
    assert cameras[0].released


def test_a_camera_that_comes_back_under_another_number_is_found_again(computer):
    first = FakeCamera(picture(1))
    source = computer.open("2", first, FakeCamera(picture(2)))
    frames = iter(source)
    next(frames)
    computer.unplug(2)
    computer.plug(4, "HD Pro Webcam C920")
    first.items.put(END)
    assert shade(next(frames).image) == 2
    source.close()
    assert computer.opened == [computer.dev / "video2", computer.dev / "video4"]


def test_a_frame_that_fails_now_and_then_is_no_loss(computer, said):
    camera = FakeCamera(*[FAIL] * (FAILURES - 1), picture(1), FAIL, picture(2))
    source = computer.open("0", camera, said=said)
    assert shade(next(iter(source)).image) in (1, 2)
    source.close()
    assert said == []


def test_broken_frames_are_left_out_and_told_of_once(computer, said):
    camera, given = FakeCamera(picture(0)), threading.Event()
    source = computer.open("0", camera, said=said)
    frames = iter(source)
    next(frames)
    for item in (BROKEN, picture(0)[:0], BROKEN, picture(4)):
        camera.items.put(item)
    camera.items.put(given.set)
    assert given.wait(WAIT_S)
    assert next(frames).number == 4
    source.close()
    assert said == ["camera 0: a broken frame was left out; further ones are not reported"]


def test_grey_frames_become_colour(computer):
    source = computer.open("0", FakeCamera(picture(7)[:, :, 0]))
    assert next(iter(source)).image.shape == (48, 64, 3)
    source.close()


def test_a_read_that_hangs_is_told_of_and_the_camera_opened_again(computer, said):
    hanging = HangingCamera(picture(1))
    retry = RetryPolicy(first_wait_s=0.001, open_s=WAIT_S, stall_s=0.02)
    source = computer.open("0", hanging, FakeCamera(picture(2)), said=said, retry=retry)
    frames = iter(source)
    assert [shade(next(frames).image) for _ in range(2)] == [1, 2]
    source.close()
    assert said[:2] == ["camera 0: no frame for 0.02 s, reconnecting", "camera 0: back, 64x48"]
    hanging.items.put(picture(3))  # it wakes up, and finds that nobody waits for it


def test_a_camera_that_hangs_again_and_again_is_given_up(computer, said, monkeypatch):
    monkeypatch.setattr(live, "CLOSE_S", 0.01)
    cameras = [HangingCamera(picture(1)), *(HangingCamera() for _ in range(HANGING))]
    retry = RetryPolicy(open_s=WAIT_S, stall_s=0.02)
    source = computer.open("0", *cameras, said=said, retry=retry)
    with pytest.raises(SourceError, match=f"camera 0: hangs; {HANGING} reads of it did not return"):
        list(source)
    assert len(computer.opened) == HANGING
    source.close()
    assert said == ["camera 0: no frame for 0.02 s, reconnecting"]
    for camera in cameras:
        camera.items.put(END)


def test_a_source_that_ends_again_and_again_is_given_up():
    """Each connection gives a frame, and does not hold."""
    retry = RetryPolicy(first_wait_s=0.001, longest_wait_s=0.001, attempts=4)
    source = LiveSource("stream", lambda: CaptureReader(FakeCamera(picture(1), END)), notify=print, retry=retry)
    with pytest.raises(SourceError, match="not back after 4 attempts"):
        list(source)
    source.close()


# Closing


def test_closing_ends_iteration_and_leaves_no_thread(computer):
    camera, ended = FakeCamera(picture(1)), threading.Event()
    source = computer.open("0", camera)
    taken = threading.Event()

    def take():
        for _ in source:
            taken.set()
        ended.set()

    threading.Thread(target=take, daemon=True).start()
    assert taken.wait(WAIT_S)
    source.close()
    source.close()
    assert ended.wait(WAIT_S)
    assert camera.released
    assert not [thread for thread in threading.enumerate() if thread.name == "kpedge 0"]


def test_closing_while_it_waits_for_a_lost_camera(computer):
    camera, lost = FakeCamera(picture(1), END), threading.Event()
    retry = RetryPolicy(first_wait_s=WAIT_S, longest_wait_s=WAIT_S)
    source = open_source(
        "0",
        notify=lambda text: lost.set(),
        cameras=CameraSystem(computer.sys, computer.dev, lambda device: camera),
        retry=retry,
    )
    assert lost.wait(WAIT_S)
    source.close()
    assert list(source) == []
    assert not source._thread.is_alive()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signal")
def test_a_signal_handler_may_close_it(computer):
    source = computer.open("0", FakeCamera(picture(1)))
    before = signal.signal(signal.SIGUSR1, lambda *_: source.close())
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert len(list(source)) == 1
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not source._thread.is_alive()
