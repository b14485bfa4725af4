"""What counts as waiting for data."""

from acx_jax.runtime.pace import Pace, Read


def timed(busy: bool) -> Read | None:
    """Three batches, each 2 s in the making, in a loop that works 3 s on each; the first is not counted."""
    now = [0.0]

    def feed():
        for _ in range(3):
            now[0] += 2
            yield None

    pace = Pace(lambda: busy, clock=lambda: now[0])
    assert pace.read(1) is None
    for number, _ in enumerate(pace.batches(feed())):
        now[0] += 3
        if number == 0:
            pace.start()
    return pace.read(2)


def test_waiting_counts_only_while_the_devices_have_nothing_to_do():
    assert timed(busy=False) == Read(steps=2, seconds=10.0, waited=4.0)
    assert timed(busy=True) == Read(steps=2, seconds=10.0, waited=0.0)
