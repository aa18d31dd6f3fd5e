"""The drawing of the disk over time."""

from datetime import datetime, timedelta

from condastore.http.ui.plots import plot
from condastore.service.chronicle import OTHERS, WHOLE_DISK, DiskHistory, Line

NOON = datetime(2026, 6, 15, 12)
TIMES = [NOON + timedelta(hours=hours) for hours in (0, 1, 4)]


def test_bands_lie_upon_each_other() -> None:
    lines = [Line("lab", [10, 20, 30]), Line(OTHERS, [0, 0, 10])]
    found = plot(DiskHistory(TIMES, Line(WHOLE_DISK, [100, 100, 200]), lines))
    assert found is not None
    assert (found.top, found.begin, found.end) == (40, TIMES[0], TIMES[-1])
    assert (found.disk_first, found.disk_last) == (100, 200)
    lab, others = found.bands
    assert (lab.name, lab.first, lab.last) == ("lab", 10, 30)
    assert lab.points == "0.0,165.0 250.0,110.0 1000.0,55.0 1000.0,220.0 250.0,220.0 0.0,220.0"
    assert others.name == "others"
    assert others.points.startswith("0.0,165.0 250.0,110.0 1000.0,0.0 1000.0,55.0")


def test_nothing_and_one_sample_are_no_drawing() -> None:
    for count in (0, 1):
        disk = Line(WHOLE_DISK, [1] * count)
        assert plot(DiskHistory(TIMES[:count], disk, [])) is None
    found = plot(DiskHistory(TIMES, Line(WHOLE_DISK, [1, 1, 1]), []))
    assert found is not None
    assert not found.bands
