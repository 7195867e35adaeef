"""The loop of a live run: frames to every output, in order, until it is to end."""

import threading

import numpy as np
import pytest
from fake_live import ListSink, ListSource, counting_tracker, empty, scene, until

from kpedge.core.errors import OutputError, SourceError
from kpedge.core.keypoints import FACES21
from kpedge.runtime import live as live_module
from kpedge.runtime.live import RateMeter, run_live
from kpedge.runtime.overlay import Layers
from kpedge.runtime.sinks.sink import Controls
from kpedge.runtime.sinks.snapshots import SnapshotSink

FACE = scene((80, 60, 50), size=(160, 120))[0]
NOBODY = empty((160, 120))


@pytest.fixture(scope="module")
def shared():
    """Models that are opened once; each test gets a tracker without memories."""
    return counting_tracker()


@pytest.fixture
def tracker(shared):
    shared.reset()
    return shared


@pytest.fixture
def controls(tracker):
    return Controls(Layers(), 0.5)


def test_every_output_gets_every_frame_in_order(tracker, controls):
    source, sinks = ListSource([FACE] * 5 + [NOBODY] * 3), [ListSink(), ListSink()]
    report = run_live(source, tracker, sinks, controls)
    for sink in sinks:
        assert sink.numbers == list(range(8))
        assert [len(live.faces) for live in sink.shown] == [1] * 5 + [0] * 3
    assert [a is b for a, b in zip(sinks[0].shown, sinks[1].shown, strict=True)] == [True] * 8, "drawn once for all"
    assert (report.frames, report.faces, report.broken) == (8, 5, [])
    assert source.closed >= 1
    assert [sink.closed for sink in sinks] == [1, 1]


def test_an_output_is_told_all_of_a_frame(tracker, controls):
    sink = ListSink()
    controls.layers = Layers(boxes=False)
    run_live(ListSource([FACE] * 3), tracker, [sink], controls)
    last = sink.shown[-1]
    assert last.source == "frames"
    assert last.frame.time_s == pytest.approx(2 / 30)
    assert last.scheme == FACES21
    assert last.layers == Layers(boxes=False)
    assert last.rate > 0
    assert {"decode", "crop", "keypoints", "track"} <= set(last.steps)
    assert last.faces[0].id == sink.shown[0].faces[0].id


def test_an_output_that_fails_is_left_out_and_told_once(tracker, controls):
    good, bad, told = ListSink(), ListSink(fails_at=2), []
    report = run_live(ListSource([FACE] * 6), tracker, [bad, good], controls, on_broken=told.append)
    assert good.numbers == list(range(6))
    assert bad.numbers == [0, 1]
    assert [str(problem) for problem in told] == ["the output is full"]
    assert report.broken == told
    assert bad.closed >= 1
    assert report.frames == 6


def test_when_the_last_output_fails_the_run_ends(tracker, controls, tmp_path):
    sinks = [ListSink(fails_at=0), ListSink(fails_at=2), SnapshotSink(tmp_path, controls)]
    assert run_live(ListSource([FACE] * 5), tracker, sinks, controls).frames == 3


def test_an_output_that_cannot_be_finished_is_told(tracker, controls):
    class Unfinished(ListSink):
        def close(self):
            super().close()
            if self.closed == 1:
                raise OutputError("it cannot be finished")

    told, other = [], ListSink()
    report = run_live(ListSource([FACE] * 2), tracker, [Unfinished(), other], controls, on_broken=told.append)
    assert [str(problem) for problem in told] == ["it cannot be finished"]
    assert report.broken == told
    assert other.closed == 1


def test_an_error_of_the_source_is_raised_when_all_is_closed(tracker, controls):
    sink, source = ListSink(), ListSource([FACE] * 3, problem=SourceError("the camera is gone"))
    with pytest.raises(SourceError, match="the camera is gone"):
        run_live(source, tracker, [sink], controls)
    assert sink.numbers == [0, 1, 2]
    assert sink.closed == 1
    assert source.closed >= 1


def test_a_fault_of_the_tracker_closes_all(tracker, controls):
    class Faulty:
        predictor, stage_seconds = tracker.predictor, {}

        def __call__(self, image, time_s):
            if time_s > 0:
                raise ZeroDivisionError("a fault")
            return ()

    sink, source = ListSink(), ListSource([FACE] * 3)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        run_live(source, Faulty(), [sink], controls)
    assert sink.numbers == [0]
    assert sink.closed == 1
    assert source.closed >= 1


def test_a_source_without_frames_ends_well(tracker, controls):
    sink = ListSink()
    report = run_live(ListSource([]), tracker, [sink], controls)
    assert (report.frames, report.faces, report.steps) == (0, 0, {})
    assert sink.closed == 1


@pytest.mark.parametrize("most", [1, 3])
def test_it_stops_after_so_many_frames(tracker, controls, most):
    sink, source = ListSink(), ListSource([FACE] * 8)
    report = run_live(source, tracker, [sink], controls, max_frames=most)
    assert report.frames == most
    assert sink.numbers == list(range(most))
    assert source.taken == most, "none is taken that nobody looks at"


def test_it_stops_after_a_time(tracker, controls, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live_module.time, "monotonic", lambda: now[0])

    def pass_time(live):
        now[0] += 0.5

    sink = ListSink(on_show=pass_time)
    report = run_live(ListSource([FACE] * 20), tracker, [sink], controls, duration=2.0)
    assert report.frames == 4
    assert report.seconds == 2.0


def test_a_threshold_that_is_changed_is_the_trackers(tracker, controls):
    controls.threshold = 0.25
    seen = []

    def change(live):
        seen.append(tracker.predictor.threshold)
        controls.threshold = 1.0 if live.frame.number == 1 else controls.threshold

    run_live(ListSource([FACE] * 3), tracker, [ListSink(on_show=change)], controls)
    assert seen == [0.25, 0.25, 1.0]


def test_layers_that_are_changed_count_from_the_next_frame(tracker, controls):
    def change(live):
        controls.layers = Layers(mirror=live.frame.number == 0)

    sink = ListSink(on_show=change)
    run_live(ListSource([FACE] * 3), tracker, [sink], controls)
    assert [live.layers.mirror for live in sink.shown] == [False, True, False]


def test_while_it_is_paused_no_frames_are_taken_and_keys_are_heeded(tracker, controls):
    source, polled = ListSource([FACE] * 5), []

    def pause(live):
        if live.frame.number == 1:
            controls.paused.set()

    def poll():
        if controls.paused.is_set():
            polled.append(source.taken)
            if len(polled) == 4:
                controls.paused.clear()

    report = run_live(source, tracker, [ListSink(on_show=pause)], controls, poll=poll)
    assert polled == [2] * 4
    assert report.frames == 5


def test_a_paused_run_can_be_ended(tracker, controls):
    controls.paused.set()
    source, polls = ListSource([FACE] * 5), []

    def poll():
        polls.append(1)
        if len(polls) == 3:
            controls.stopping.set()

    assert run_live(source, tracker, [], controls, poll=poll).frames == 0
    assert source.taken == 0
    assert controls.paused.is_set()


def test_while_no_frame_comes_keys_are_heeded(tracker, controls):
    source, polls = ListSource([FACE], hangs=True), []

    def poll():
        polls.append(1)
        if len(polls) == 5:
            source.release.set()

    report = run_live(source, tracker, [ListSink()], controls, poll=poll)
    assert report.frames == 1
    assert len(polls) >= 5


def test_a_source_that_waits_is_let_go_when_it_is_to_stop(tracker, controls):
    class Waiting(ListSource):
        def close(self):
            super().close()
            self.release.set()

    source, sink = Waiting([FACE], hangs=True), ListSink(on_show=lambda live: controls.stopping.set())
    report = run_live(source, tracker, [sink], controls)
    assert report.frames == 1
    until(lambda: "frames" not in {thread.name for thread in threading.enumerate()})


def test_a_source_that_hangs_holds_nobody_up(tracker, controls, monkeypatch):
    monkeypatch.setattr(live_module, "JOIN", 0.05)
    source, sink = ListSource([FACE], hangs=True), ListSink(on_show=lambda live: controls.stopping.set())
    try:
        report = run_live(source, tracker, [sink], controls)
        assert report.frames == 1
        assert sink.closed == 1
        assert source.closed >= 1
        assert not source.release.is_set(), "it hangs still"
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "frames")
    finally:
        source.release.set()


def test_no_thread_is_left_when_it_ends(tracker, controls):
    before = threading.active_count()
    for _ in range(3):
        run_live(ListSource([FACE] * 2), tracker, [ListSink()], controls)
    assert threading.active_count() == before


def test_a_frame_is_asked_for_when_the_last_one_is_done_with(tracker, controls):
    source = ListSource([FACE] * 4)
    taken = []
    run_live(source, tracker, [ListSink(on_show=lambda live: taken.append(source.taken))], controls)
    assert taken == [1, 2, 3, 4]


def test_the_rate_is_that_of_the_last_second():
    meter = RateMeter()
    assert meter.tick(0.0) == 0.0
    for step in range(1, 31):
        rate = meter.tick(step / 30)
    assert rate == pytest.approx(30)
    for step in range(1, 41):
        rate = meter.tick(1 + step / 10)
    assert rate == pytest.approx(10, abs=0.5)
    assert meter.tick(5.0) == pytest.approx(rate), "two frames of one moment"
    assert np.isfinite(meter.tick(1e9))
